// SPDX-License-Identifier: Apache-2.0

package unpack

// Limits of one layer. Whoever made the image may be hostile: each of these bounds
// what it can take of this machine before it is refused.
const (
	// maxBytes bounds a layer's archive, and also what its files are said to hold,
	// holes included. The largest public images (machine learning, with CUDA and
	// weights) have layers of some 20 GiB.
	maxBytes = 256 << 30
	// maxEntries bounds the files of a layer. A whole distribution with its sources
	// has a million.
	maxEntries = 8 << 20
	// maxDirNames bounds the names of directories, which are remembered to the end,
	// in bytes. A million directories with names of 60 bytes fit.
	maxDirNames = 64 << 20
	// maxAside bounds the paths of the files that are put aside, in bytes. They are told
	// in one message, and a layer of nothing but one file with a long path, over and
	// over, would have many gigabytes of them.
	maxAside = 128 << 10
	// maxName is the longest path of an entry in bytes, that of a system call
	// (PATH_MAX in include/uapi/linux/limits.h).
	maxName = 4096
	// maxXattrs bounds the extended attributes of one file, in bytes of names and
	// values: XATTR_SIZE_MAX, the most that one value can have.
	maxXattrs = 64 << 10
	// ratioFrom is the size from which the archive must not be more than maxRatio
	// times its compressed form. Deflate reaches 1032 at most; only zstd can be
	// beyond, and only for what is nothing.
	ratioFrom = 1 << 30
	maxRatio  = 2000
	// maxWindow is the memory that a zstd stream may ask for, in bytes: what `zstd
	// --long` takes, and the most that other decoders accept without being told.
	maxWindow = 128 << 20
	// maxLinks bounds the symbolic links that one path may lead through (the
	// kernel's own limit, MAXSYMLINKS in include/linux/namei.h).
	maxLinks = 40
)
