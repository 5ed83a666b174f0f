// SPDX-License-Identifier: Apache-2.0

// Package getopt reads command lines as getopt_long(3) of the GNU C library does, and
// complains in its words: callers of the programs whose place slipway takes look for
// those.
//
// # Theory of operation
//
// A program lists its options (Spec), and Parse hands them to it one after the other,
// in the order in which they stand, with their values; what is left are the operands.
// Parse keeps nothing, and looks at nothing but its arguments. What an option means, and
// which values it takes, is the caller's business.
package getopt
