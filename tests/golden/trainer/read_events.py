"""Prints the scalars of a folder's event files as TensorBoard itself reads them: {"tag": [[step, value], ...]}.

    python read_events.py FOLDER

Run by the trainer's test when MONOPASS_PEER_PYTHON names a Python with tensorboard.
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
