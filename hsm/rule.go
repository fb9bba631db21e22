package hsm

// KeyRule says how a token makes a key. An empty member leaves the choice to
// the driver.
type KeyRule struct {
	Algorithm Algorithm
	PIN       PINPolicy
	Touch     TouchPolicy
}
