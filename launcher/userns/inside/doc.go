// SPDX-License-Identifier: Apache-2.0

// Package inside is what a process does that was started in a user namespace whose ids
// its parent maps: it waits for the mapping and becomes the namespace's root. It
// imports next to nothing, since a container's init stage is linked with it.
//
// Between its start and the mapping the process has the ids of its parent on the host,
// with the rights they give it there, and every capability in the namespace (by ambient
// capabilities, since an execve(2) without a mapped id would drop the others). After
// BecomeRoot it has those rights on the host that the mapping gives to 0. What is to be
// opened with the caller's rights must be opened before.
//
// It holds no state and starts nothing.
package inside
