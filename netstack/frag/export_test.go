// SPDX-License-Identifier: Apache-2.0

package frag

import "unsafe"

// SlotSize is what a slot takes besides its buffer, and SlotBudget what
// MaxMemory reckons for it.
const (
	SlotSize   = unsafe.Sizeof(slot{})
	SlotBudget = slotBytes - bufBytes
)
