// SPDX-License-Identifier: Apache-2.0

//go:build race

package inside

// detector has a stage that is built with the race detector exit at once, as any other
// does. It would sleep for a second first, and a container is several stages, one after
// the other. A race that was seen is in the exit code all the same.
const detector = "GORACE=atexit_sleep_ms=0"
