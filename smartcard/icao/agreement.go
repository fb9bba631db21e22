package icao

import (
	"errors"
	"io"

	"enrollkiosk/smartcard/domain"
)

// keyPair is the terminal's ephemeral end of a Diffie-Hellman key agreement
// (ICAO 9303-11 9.6).
type keyPair struct {
	group   domain.Group
	private []byte
	public  domain.Element
	encoded []byte
}

// newKeyPair draws a key over generator. Its encoding has its full length even
// without leading zeros: over finite fields cards differ on whether those belong
// to the number that the token is over.
func newKeyPair(g domain.Group, generator domain.Element, random io.Reader) (keyPair, error) {
	for range 128 {
		private, err := g.Scalar(random)
		if err != nil {
			return keyPair{}, err
		}
		public := g.Multiply(generator, private)
		if encoded := g.Encode(public); encoded[0] != 0 {
			return keyPair{g, private, public, encoded}, nil
		}
		clear(private)
	}
	return keyPair{}, errors.New("random source gives no key")
}

// agree returns the shared secret at full length: one that loses its leading
// zeros fails once in 256 runs. It fails with [domain.ErrElement].
func (k keyPair) agree(theirs domain.Element) ([]byte, error) {
	return k.group.Secret(k.group.Multiply(theirs, k.private))
}
