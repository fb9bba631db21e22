package credential

// For vectors of other people's: what they give is a part of what the exported
// functions take.
var (
	ParseStatusList = parseStatusList
	ParseDisclosure = parseDisclosure
	DigestOf        = digestOf
	Split           = split
)

// VerifyJWS is the one way that all accepting functions go.
func VerifyJWS(jws, typ string, key Object) (Object, error) {
	u, err := parseJWS(jws, typ)
	if err != nil {
		return nil, err
	}
	pub, err := parseJWK(key, false)
	if err != nil {
		return nil, err
	}
	return u.verify(pub, requestDepth)
}

// Types that tests name.
const (
	CredentialType = credentialType
	KeyBindingType = keyBindingType
)

// QueryJSON is a query as a site sends it.
func QueryJSON(q Query) []byte { return marshal(q.wire()) }
