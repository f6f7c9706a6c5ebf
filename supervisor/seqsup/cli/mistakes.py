"""Mistakes on the command line in our own words: click's speak of arguments, values and ranges."""

import re

import click

from seqsup.text import nearest

_TOO_MUCH = re.compile(r"Got unexpected extra arguments? \((.*)\)")
# As xargs, make, GNU parallel, test runners and the profile's own key call it
_ABREAST = re.compile(r"-[jP]|--(?:max-?|num-?|n-?)?(?:parallel|concurren|job|worker|proc|thread|lane)[a-z-]*")
_ONE_AT_A_TIME = (
    "agents run one at a time, so that their memory does not add up. To allow more, set run.concurrency and"
    " run.allow_concurrency in a profile:"
    " https://github.com/seqsup/seqsup/blob/main/docs/how-to/two-at-a-time.md"
)
_NO_CHOICE = re.compile(r"('.*') is not ")


def told(error: click.ClickException) -> str:
    """Return the mistake with its correction."""
    context: click.Context | None = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())  # lists stand on lines of their own
    if context is not None:
        if isinstance(error, click.NoSuchOption):
            if _ABREAST.fullmatch(error.option_name) and context.info_name in ("start", "plan", "run"):
                return f"unknown option {error.option_name}: {_ONE_AT_A_TIME}"
            known = [name for param in context.command.get_params(context) for name in param.opts]
            return f"unknown option {error.option_name}{nearest(error.option_name, known)}"
        if isinstance(error, click.MissingParameter) and error.param is not None:
            wanted = " ".join(error.param.get_usage_pieces(context))
            return f"incomplete: {context.command_path} {wanted}"
        if several := _TOO_MUCH.fullmatch(message):
            form = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
            return f"unexpected argument: {several[1]}; usage: {form}"
    if isinstance(error, click.BadOptionUsage):
        wants = "takes no" if "not take" in error.message else "wants a"
        return f"{error.option_name} {wants} value"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_name(error.param, context)}: {_value(error.param, error.message)}"
    return message[:1].lower() + message[1:].removesuffix(".")


def _name(param: click.Parameter, context: click.Context | None) -> str:
    """As it is given: by an option, by a place, or by the environment's variable."""
    if isinstance(param, click.Argument):
        return (param.metavar or param.name or "").strip("[].")
    source = context.get_parameter_source(param.name) if context is not None and param.name else None
    if source is click.core.ParameterSource.ENVIRONMENT:
        return str(param.envvar)
    return param.opts[-1]


def _value(param: click.Parameter, message: str) -> str:
    given = _NO_CHOICE.match(message)
    if isinstance(param.type, click.Choice) and given is not None:
        return f"expected one of {', '.join(param.type.choices)}, not {given[1]}"
    return message
