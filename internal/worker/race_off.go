//go:build !race

package worker

// memoryFactor is how much more memory this build takes than a plain one.
const memoryFactor = 1
