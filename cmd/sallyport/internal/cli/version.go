package cli

import "runtime/debug"

var linkedVersion string

// SetVersion sets the version that the linker gave to the program. It is called
// once, before anything else.
func SetVersion(version string) { linkedVersion = version }

// Version returns the version that the linker set, or that the build knows.
func Version() string {
	if linkedVersion != "" {
		return linkedVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unknown"
}
