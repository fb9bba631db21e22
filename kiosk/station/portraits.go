package station

import (
	"context"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/portrait"
	"enrollkiosk/smartcard/prcid"
)

// facePixels is what a screen shows of a face; larger ones are scaled down.
const facePixels = 640 * 480

// portraits draws faces: JPEG and JPEG 2000, and where a program for them is
// configured the photos of resident identity cards.
type portraits struct {
	decoder  portrait.Decoder
	resident prcid.Decoder
}

func (c Config) portraits() portraits {
	return portraits{resident: prcid.Decoder{Path: c.Resident.Decoder}}
}

// Picture implements kiosk.Portraits.
func (p portraits) Picture(ctx context.Context, kind identity.Kind, image []byte) ([]byte, error) {
	if kind != identity.PRCResident {
		return p.decoder.Normalise(ctx, image, facePixels)
	}
	m, err := p.resident.Decode(ctx, secret.New(image))
	if err != nil {
		return nil, err
	}
	return portrait.Encode(m, facePixels)
}
