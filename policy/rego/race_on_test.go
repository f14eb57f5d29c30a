//go:build race

package rego

// raceFactor is how much more memory tests of this build may take.
const raceFactor = 12

// timeFactor is how much more time a policy may take in this build. Bombs use all of it.
const timeFactor = 4
