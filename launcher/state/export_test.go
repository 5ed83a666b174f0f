// SPDX-License-Identifier: Apache-2.0

package state

// Drop lets h go as the kernel does when its supervisor is killed.
func (h *Held) Drop() {
	h.lock.Close()
	for _, f := range h.exits {
		f.Close()
	}
}

// SetBoot makes s one of another boot.
func (s *Store) SetBoot(id string) { s.boot = id }

// ParseStat is what the fuzzer feeds.
var ParseStat = parseStat
