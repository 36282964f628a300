"""Static files: read once, served under a name that holds a hash of the content, so that browsers keep them."""

import hashlib
from pathlib import Path, PurePath

from starlette.responses import Response

from idp.errors import NotFound

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Assets:
    """All files of a flat folder, in memory."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._paths: dict[str, str] = {}
        self._served: dict[str, tuple[bytes, str]] = {}
        for file in sorted(folder.iterdir()):
            content = file.read_bytes()
            name = PurePath(file.name)
            path = f"/static/{name.stem}.{hashlib.sha256(content).hexdigest()[:8]}{name.suffix}"
            self._paths[file.name] = path
            self._served[path] = (content, TYPES[name.suffix])

    def path(self, name: str) -> str:
        """`base.css` -> `/static/base.3f2a91c0.css`. Raises KeyError for a file that does not exist."""
        return self._paths[name]

    def respond(self, path: str) -> Response:
        """The file of a path that `path` has given. Raises NotFound for every other."""
        found = self._served.get(path)
        if found is None:
            raise NotFound()
        return Response(found[0], media_type=found[1], headers=HEADERS)
