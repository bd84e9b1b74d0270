# componentize-py from PyPI: turns the Python example into a component.

part_version() { digest_of "$PINS/python-guest.txt"; }
part_works() { "$TOOLS/bin/componentize-py" --version >/dev/null 2>&1; }

part_install() {
    python_env python-guest "$PINS/python-guest.txt"
    link_tool componentize-py "$TOOLS/python-guest/bin/componentize-py"
}
