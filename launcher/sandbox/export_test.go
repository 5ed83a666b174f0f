// SPDX-License-Identifier: Apache-2.0

package sandbox

// ParseMountParents is parseMountParents.
func ParseMountParents(table string) map[string]bool { return parseMountParents(table) }
