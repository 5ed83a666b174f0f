// SPDX-License-Identifier: Apache-2.0

// Package splice
package splice
