package gas

// Allowed returns the opcodes of the allow-list.
func Allowed() map[string]bool {
	names := map[string]bool{}
	for name := range opcodes {
		names[name] = true
	}
	return names
}
