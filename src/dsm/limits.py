"""Limits on what a file may ask for. Files are not trusted, and a small one can ask for any amount of memory.

Each limit is well above real use, and far below a machine's memory. A file that asks for more is refused with
an error before memory is allocated.
"""

from __future__ import annotations

MAX_PIXELS = 2**26
"""Pixels of the largest picture that is decoded: as many as 8192 x 8192, four times those of 8K video."""

MOST_SAMPLES_A_BYTE = 4
"""Samples that an mp4 may list per byte of the file. A frame of video takes several bytes, a sample of the
most compressed old sound a third of one. FFmpeg takes 24 bytes of memory for each, whether it is there or
not."""

CLIP_SIDE = 65536
"""A clip's frames, and pixels per side: above what any network takes."""
CLIP_PIXELS = 2**25
"""Pixels of a clip before it is cropped to a square, frames x resize x resize: as many as 128 frames of
512 x 512. The largest public networks take 64 frames of 384 x 384. Decoded, such a clip takes 100 MB."""
CLIP_RATE = 1000
"""Highest frame rate to resample a video to: as fast as the cameras of crash tests."""
QUERY_PIXELS = 2**28
"""Pixels of all clips, frames x size x size, that an index may ask to be taken of one query: 256 clips of 64
frames of 128 x 128, or a hundred of 16 frames of 224 x 224 in three crops. Tables of results use 30 clips."""
SHORTEST_STEP = 0.01
"""Least seconds between clips that an index may ask for: less than the frame interval of most cameras."""

PICKLE_TABLE = 2**27
"""Bytes of the pickle in a checkpoint that names its tensors. Those of the largest networks take 1 MB."""
PICKLE_STEPS = 2**22
"""Instructions of that pickle. Each may make an object of 200 bytes. A tensor takes some 30, and large
networks with their optimisers have 20,000 tensors."""
DIMENSIONS = 64
"""Most dimensions of a tensor, as many as torch supports."""
TENSORS_TABLE = 2**24
"""Bytes in which a safetensors file names its tensors. Each takes 100 there, and 1 kB once it is read."""
REPEATED_NUMBERS = 2**27
"""Numbers that a checkpoint's tensors may show beyond those stored, by a stride of 0. Loading copies them
out: 500 MB. Real repeats are masks and positions; a stand-in for the largest backbone repeats 46 million."""
EXTRA_NUMBERS = 2**20
"""Numbers that a network may have beyond those of its file: buffers that are computed and not stored."""
SETTING = 2**20
"""A number among the settings of a network: a width, a number of layers or positions."""

JSON_BYTES = 2**26
"""Bytes of a JSON text: settings, results or the index of a shard. Once parsed it takes up to 20 times as
much. The index of a shard with the frame times of 1,000 videos takes 3 MB."""
JSON_DEPTH = 32
"""Levels of nesting in JSON. What dsm writes has 5."""
TEXT_BYTES = 2**26
"""Bytes of a table or text that is read whole: groups, class names, predictions, a card. A table of a million
videos takes 60 MB."""
LOG_LINE = 2**20
"""Bytes of a line of a log. A line of gradients takes 100 bytes per layer."""
LAYERS = 400
"""Layers whose gradients are drawn in a figure: more than the deepest networks have."""
STORED_OBJECTS = 10_000
"""Files of a run's copy in storage. A run has some twenty."""
ANNOTATION_BYTES = 2**29
"""Bytes of a JSON file of annotations. The largest, of Kinetics-700, take some 200 MB."""
LEDGER_BYTES = 2**29
"""Bytes of a ledger of videos. One of a million videos takes 250 MB."""

INDEX_LINE = 2**16
"""Bytes of the line that describes a search index. It takes 200."""
UNPACKED = 100
"""How many times its size a file may unpack to. Features hardly compress, but paths and labels do."""
PATH_LENGTH = 4096
"""Characters of a path in a features file: as long as systems allow."""
MOST_CLASSES = 1_000_000
"""Numbers of classes. Labels are counted in arrays of this length."""

QUERY_BYTES = 256 * 2**20
"""Bytes of a video uploaded to the search page as a query."""
QUERIES = 4
"""Queries that the search page receives at once; each is kept in memory meanwhile."""
CONNECTIONS = 64
"""Requests that the search page works on at once. A browser opens six connections; each takes a thread."""
BACKLOG = 4096
"""Connections that wait for the search page, as many as Linux allows. The system keeps them, at no cost to
the page; where they do not fit, it resets some."""
SETTINGS_BYTES = 2**22
"""Bytes of a published model's settings. Those with the names of 20,000 classes take 1 MB."""

OBJECT_BYTES = 2**38
"""Bytes of an object that is read by URL: 256 GiB, years of video. It must also fit into the cache."""
LIST_BYTES = 2**31
"""Bytes of a list that is read by URL. One of ten million videos takes 1 GB."""
LIST_LINES = 2**24
"""Lines of a list. Where each begins and ends takes 60 bytes."""
WITHOUT_RANGES = 2**26
"""Bytes of a file from a server that sends only whole files: each part is read from the start of the file."""
