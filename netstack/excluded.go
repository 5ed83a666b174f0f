// SPDX-License-Identifier: Apache-2.0

package netstack

import "github.com/slipway-net/slipway/netstack/splice"

// The stacked flows are those that the spliced path's rules must leave alone: the
// kernel has a set of them, which is changed for many at once.

// exclude has the flow's packets come to us, once release has been called, as they
// would without any rules; it reports false where they do already.
func (k *kernelPath) exclude(f *tcpFlow) bool {
	if k.hairpin == nil {
		return false
	}
	f.excluded = true
	if _, ok := k.ended[f.key]; ok {
		delete(k.ended, f.key)
		return false
	}
	if len(k.leaving) == 0 {
		k.n.loop.Defer(k.release)
	}
	k.leaving = append(k.leaving, f)
	return true
}

// release excludes the flows of this turn, all at once, and gives them to gVisor.
func (k *kernelPath) release() {
	names := make([]splice.Tuple, 0, len(k.leaving))
	for _, f := range k.leaving {
		names = append(names, f.key.names())
	}
	if err := k.hairpin.Exclude(names); err != nil && k.lines.allowed(k.n.now) {
		k.n.log.Warn("connections cannot be stacked", "flows", len(names), "err", err)
	}
	leaving := k.leaving
	k.leaving = nil
	for _, f := range leaving {
		f.answer()
	}
}

// end notes that a flow that was excluded has ended.
func (k *kernelPath) end(f *tcpFlow) {
	if !f.excluded {
		return
	}
	f.excluded = false
	k.ended[f.key] = struct{}{}
	if len(k.ended) >= maxEnded {
		k.includeEnded()
	}
}

// include makes sure that the flow's packets stay in the container: one of that name
// may have been stacked before.
func (k *kernelPath) include(key tuple) {
	if _, ok := k.ended[key]; ok {
		k.includeEnded()
	}
}

// includeEnded takes the flows that have ended out of the kernel's sets.
func (k *kernelPath) includeEnded() {
	if len(k.ended) == 0 {
		return
	}
	flows := make([]splice.Tuple, 0, len(k.ended))
	for key := range k.ended {
		flows = append(flows, key.names())
	}
	clear(k.ended)
	if err := k.hairpin.Include(flows); err != nil && k.lines.allowed(k.n.now) {
		k.n.log.Warn("ended flows are left in nftables", "flows", len(flows), "err", err)
	}
}
