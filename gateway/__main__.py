"""`python -m gateway` is the command `lingma-gateway`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
