"""Masks by audience: other people and logs, counter staff before verification, the person's own pages."""

from ipaddress import IPv4Address, ip_address


def _mask(text: str, head: int, tail: int, hidden: int) -> str:
    """Keep `head` and `tail` signs where at least `hidden` signs stay covered, else fewer, else none."""
    for first, last, least in ((head, tail, hidden), (2, 2, 5), (1, 1, 3)):
        covered = len(text) - first - last
        if first <= head and covered >= least:
            return text[:first] + "*" * covered + text[-last:]
    return "*" * len(text)


def mask_number(number: str) -> str:
    """For the public, other users and logs: first and last sign."""
    return _mask(number, 1, 1, 3)


def mask_number_counter(number: str) -> str:
    """For counter staff before verification: first 6 and last 4; fewer of short numbers.

    Weak: never show it next to an age or a birthday.
    """
    return _mask(number, 6, 4, 5)


def mask_number_own(number: str) -> str:
    """For the person: first 4 and last 4; fewer of short numbers."""
    return _mask(number, 4, 4, 5)


def mask_phone(phone: str) -> str:
    """For everybody: first 3 and last 4 of 11 digits."""
    return _mask(phone, 3, 4, 4)


def mask_phone_own(phone: str) -> str:
    """For the person the same; the full number is shown on request after step-up."""
    return mask_phone(phone)


def mask_name(name: str) -> str:
    """For everybody else: the last sign; nothing of a name of one sign."""
    return "*" * (len(name) - 1) + name[-1] if len(name) > 1 else "*" * len(name)


def mask_name_own(name: str) -> str:
    """For the person: first and last sign; nothing of a name of one sign."""
    return name[0] + "*" * (len(name) - 2) + name[-1] if len(name) > 1 else "*" * len(name)


def coarse_address(address: str) -> str:
    """A network address for the person whose sign-in it was: the network, as coarse as a provider's district.

    `198.51.*.*`, `2001:db8:85a3:*`; "" for anything that is no address.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, IPv4Address):
        first, second, *_ = str(found).split(".")
        return f"{first}.{second}.*.*"
    groups = found.exploded.split(":")[:3]
    return ":".join(f"{int(group, 16):x}" for group in groups) + ":*"
