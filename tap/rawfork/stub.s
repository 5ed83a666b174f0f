// SPDX-License-Identifier: Apache-2.0

// This file is empty: its being here lets rawfork.go declare functions without a
// body, whose code the runtime provides.
