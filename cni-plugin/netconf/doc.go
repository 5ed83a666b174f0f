// SPDX-License-Identifier: Apache-2.0

// Package netconf reads what a container runtime tells a CNI plugin about a network
// and about one attachment to it, and makes one Conf of that.
//
// Three sources speak about the same things. In order of weight they are the
// runtimeConfig, which the runtime fills in for each capability that the network's
// configuration asks for (CONVENTIONS.md of the CNI project), the args of the
// configuration, the older CNI_ARGS, and the configuration itself.
//
// All of it is input. A key that is not known is an error that names it, since a
// misspelt "deny" must not pass for a network without rules. Keys that belong to the
// specification or to runtimes are let through. Errors are those of the specification:
// *types.Error with its code.
package netconf
