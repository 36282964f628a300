"""Devices by the words of their browsers, as far as a person needs to recognise one."""

# the first that fits counts: more special words stand before the ones they contain
SYSTEMS = (
    ("Windows", "Windows"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("HarmonyOS", "HarmonyOS"),
    ("Android", "Android"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
BROWSERS = (
    ("MicroMessenger", "WeChat"),
    ("Edg/", "Edge"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)


def describe_device(user_agent: str) -> str:
    """`Windows, Edge` for the header of a browser, "" when nothing in it is known."""
    found = [next((name for word, name in table if word in user_agent), "") for table in (SYSTEMS, BROWSERS)]
    return ", ".join(word for word in found if word)
