// SPDX-License-Identifier: Apache-2.0

//go:build !race

package inside

// detector is nothing: see race.go.
const detector = ""
