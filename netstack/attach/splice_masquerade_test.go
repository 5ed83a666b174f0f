// SPDX-License-Identifier: Apache-2.0

package attach_test

import "testing"

// TestSpliceMasqueradeAll masquerades the container's own connections, too: the
// kernel drops what leaves by another interface than the first packet did
// (nf_nat_oif_changed of net/netfilter/nf_nat_core.c), and forgets the connection.
func TestSpliceMasqueradeAll(t *testing.T) { testBridgePorts(t, masqueradeAll) }
