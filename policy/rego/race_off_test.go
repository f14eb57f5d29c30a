//go:build !race

package rego

// raceFactor is how much more memory tests of this build may take.
const raceFactor = 1

const timeFactor = 1
