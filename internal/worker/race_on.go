//go:build race

package worker

// memoryFactor is how much more memory this build takes than a plain one: the race
// detector shadows each byte.
const memoryFactor = 12
