// SPDX-License-Identifier: Apache-2.0

// Package taptest makes containers for tests: processes in a user and network
// namespace of their own, made without privilege. It is for tests only.
package taptest
