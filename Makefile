# For those who type make. All of it is in supervisor/__main__.py, which needs Python only: `python3 supervisor demo`.
# More arguments: `make test ARGS="-k drain"`.

.PHONY: demo check test test-all lint mutants clean dashboard-preview

demo check test test-all lint mutants clean:
	@python3 supervisor $@ $(ARGS)

# From a real run: with ARGS=again from the last one, as after a change of the dashboard
dashboard-preview:
	@python3 supervisor preview $(ARGS)
