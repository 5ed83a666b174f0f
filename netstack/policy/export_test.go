// SPDX-License-Identifier: Apache-2.0

package policy

// DirectedBroadcast is directedBroadcast, for the tests.
var DirectedBroadcast = directedBroadcast
