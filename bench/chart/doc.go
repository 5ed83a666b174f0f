// SPDX-License-Identifier: Apache-2.0

// Package chart draws the bench's plots as SVG that is part of an HTML page.
//
// # Theory of operation
//
// A Bars or a Lines says what is to be seen: series, values with their lowest and
// highest, units. SVG hands it to gonum.org/v1/plot, which knows scales, axes, text
// and error bars, and then makes the drawing fit the page it becomes part of:
//
//   - Colours. Gonum writes fixed ones, but the page has a light and a dark scheme.
//     So it is given a colour that stands for a role (ink, grid, the third series),
//     and in the finished drawing each such colour is replaced by a CSS variable.
//     Styles returns the values of the variables for both schemes.
//   - Access. The drawing gets a title and a description and is one image to a screen
//     reader. A series is told by more than its colour: by its place in each group of
//     bars, and by the shape and dashes of its line. Values stand above their bars.
//   - Text. The page's own sans-serif font is used; gonum's metrics are those of
//     Liberation Sans, which the usual ones match.
//
// Strings from outside are text in the drawing and nothing else: gonum's SVG writer
// escapes them, and so does this package where it writes the title and description.
// A value that is not finite is an error, since SVG has no way to say it.
//
// The package knows nothing of cases, subjects and files. It has no state.
package chart
