package record

// ParseIdentity reads what stands in a sealed identity, and Plaintext is what id
// would be sealed as, without its padding.
func ParseIdentity(text []byte) (Identity, error) { return parseIdentity(text) }

func Plaintext(id Identity) ([]byte, error) {
	plain, err := id.plaintext()
	if err != nil {
		return nil, err
	}
	return unpad(plain)
}
