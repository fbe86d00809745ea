"""What the bytes of an encoded item mean; written by _encode.pyx, read by _decode.pyx.

An item is a *head*, which stands in a queue's cell, and perhaps a *body*, which stands in a block of its own.

    head     either the item's stream itself, or SPILLED and the stream's size: then the stream is the beginning of
    the body stream   one value, which begins with a code; what is in a container follows it
    parts    large runs of bytes (of arrays, bytes, str, buffers of pickles) stand in the body, after the stream if
    that is there,
             in the order in which the stream speaks of them, each at the next multiple of 64

All numbers are little-endian; lengths and counts are 7 bits to the byte, low ones first, the high bit says that more
follow. A run of bytes of PART_LEAST or more is a part; shorter ones follow in the stream.
"""

cdef enum:
    HEAD_MOST = 104
    PART_LEAST = 1024          # bytes that are worth a place of their own
    PART_ALIGN = 64
    DEPTH_MOST = 24            # containers within containers that are encoded here; deeper ones are pickled
    DIMENSIONS_MOST = 64

    CODE_NONE = 1
    CODE_TRUE = 2
    CODE_FALSE = 3
    CODE_INT8 = 4              # 1 byte
    CODE_INT64 = 5             # 8 bytes
    CODE_INT = 6               # run, signed
    CODE_FLOAT = 7             # 8 bytes
    CODE_COMPLEX = 8           # 16 bytes
    CODE_BYTES = 9             # run
    CODE_BYTEARRAY = 10        # run
    CODE_ASCII = 11            # run
    CODE_LATIN = 12            # run, 1 byte per character
    CODE_UCS2 = 13             # run, 2 bytes per character
    CODE_UCS4 = 14             # run, 4 bytes per character
    CODE_PLAIN = 14            # up to here nothing is in a value, and no class's code runs for it
    CODE_TUPLE = 15            # count, values
    CODE_LIST = 16             # count, values
    CODE_DICT = 17             # count, keys and values in turn
    CODE_SET = 18              # count, values
    CODE_FROZENSET = 19        # count, values
    CODE_SCALAR = 20           # dtype, run
    CODE_ARRAY = 21            # dtype, dimensions and order, sides, run
    CODE_ARRAY_AT = 22         # dtype, dimensions and order, sides, place in the body
    CODE_PICKLE = 23           # run, count of buffers, for each: 1 byte (writable?), run
    CODE_SPILLED = 24          # size of the stream
    CODE_SHARED = 25           # dtype, dimensions and order, sides, shared_t, strides if it says so

    CODE_INSTANCE = 26         # run: module, qualified name of the class, names of attributes, 0 between them; values
    CODE_NAMED = 27            # run: module, qualified name, 0 between them; count, values
    CODE_SLOTS = 28            # run: module, qualified name, names of slots, 0 between them; values
    CODE_STATED = 29           # the same, of one of which pickle has a list of values
    CODE_MADE = 30             # run: module, qualified name; tuple: what the class is called with
    CODE_SET_UP = 31           # run: module, qualified name; what its __setstate__ is called with
    CODE_EXTENDED = 32         # run: module, qualified name; count; tuple: what the class is called with; values
    CODE_FILLED = 33           # the same, but keys and values in turn
    CODE_CLASS = 34            # run: module, qualified name; what a defaultdict is called with

    # A dtype: 1 byte, NumPy's number of a plain one; or one of these, and a run.
    DTYPE_TEXT = 254           # as the header of an .npy file says it
    DTYPE_PICKLE = 255

    ORDER_F = 128              # beside the number of dimensions
