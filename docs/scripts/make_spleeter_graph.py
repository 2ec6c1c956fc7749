"""Write what Spleeter's model needs besides its weights: options, front end and graph.

    python docs/scripts/make_spleeter_graph.py [--out vocalsep/interchange/spleeter.json]

The plain install imports Spleeter's weights without torch, so the graph of the net is part of the package. A test
compares it with the net.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vocalsep import backends, config, nets
from vocalsep.features import Linear
from vocalsep.interchange.spleeter import DESCRIPTION


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DESCRIPTION)
    given = parser.parse_args()
    front_end = Linear(frames=512, compression=0.0, normalised=False, above="zero")
    net = nets.build("spleeter", {}).eval()
    settings = config.to_dict(front_end)
    description = {
        "format": 1,
        "net": "spleeter",
        "options": config.to_dict(net.options),
        "front_end_kind": settings.pop("kind"),
        "front_end": settings,
        **backends.describe_net(net, front_end.input_shape, required=True),
    }
    given.out.write_text(json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
