# Targets for make. All of it is in supervisor/__main__.py, which needs Python only: `python3 supervisor demo`.
# More arguments: `make test ARGS="-k drain"`.

.PHONY: demo fleet-demo check test test-all lint mutants pictures clean

demo fleet-demo check test test-all lint mutants pictures clean:
	@python3 supervisor $@ $(ARGS)
