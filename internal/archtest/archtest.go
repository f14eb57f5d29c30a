// Package archtest holds the architecture as a test: which folder may import
// what. The folder names are the architecture, and this is what keeps them
// honest. It has no code of its own outside its tests.
package archtest
