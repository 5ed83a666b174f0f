// SPDX-License-Identifier: Apache-2.0

package launcher

import "github.com/slipway-net/slipway/launcher/sandbox"

// IsInit reports whether a process with these arguments (os.Args) is an init
// stage and must call Init at once.
func IsInit(args []string) bool { return sandbox.IsInit(args) }

// Init is the main function of an init stage: see sandbox.Init.
func Init(args []string) int { return sandbox.Init(args) }
