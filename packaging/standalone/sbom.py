"""Adds corefilt and Debian's packages to the CycloneDX list of the libraries, and prints it.

Usage: python sbom.py SBOM VERSION DEBS      (DEBS: the directory with the packages)
"""

import json
import subprocess
import sys
from pathlib import Path


def main(sbom: Path, version: str, debs: Path) -> None:
    """Print the whole list."""
    report = json.loads(sbom.read_text())
    report["metadata"]["component"] = {
        "type": "application", "name": "corefilt", "version": version, "bom-ref": "corefilt",
        "purl": f"pkg:pypi/corefilt@{version}",
    }  # fmt: skip
    for deb in sorted(debs.glob("*.deb")):
        show = subprocess.run(["dpkg-deb", "-W", deb], capture_output=True, text=True, check=True)
        name, number = show.stdout.split()
        report["components"].append({
            "type": "library", "name": name, "version": number, "bom-ref": f"deb-{name}",
            "purl": f"pkg:deb/debian/{name}@{number}?distro=debian-12",
        })  # fmt: skip
    json.dump(report, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
