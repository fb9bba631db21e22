package station

import (
	"crypto/hpke"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk"
	"enrollkiosk/registry/record"
)

// tokenInfoLabel is HPKE's info of a token's sealed administrator.
const tokenInfoLabel = "enrollkiosk/token/v1"

// TokenFile is token-SERIAL.json, described in docs/token-file.md.
type TokenFile struct {
	Version        int          `json:"version"` // 1
	Serial         uint32       `json:"serial"`
	Made           time.Time    `json:"made"` // this machine's clock
	Authentication TokenFileKey `json:"authentication"`
	KeyManagement  TokenFileKey `json:"key_management"`
	Admin          SealedAdmin  `json:"admin"`
}

// TokenFileKey is a key with the evidence that it was born in the token.
type TokenFileKey struct {
	Public   []byte          `json:"public"` // SubjectPublicKeyInfo, DER
	Evidence hsm.PIVEvidence `json:"evidence"`
}

// SealedAdmin is PUK and management key under HPKE (RFC 9180) in base mode:
// MLKEM768-X25519, HKDF-SHA256, AES-256-GCM.
type SealedAdmin struct {
	Key        string `json:"key"` // the authority's key, by its name in the policy
	Enc        []byte `json:"enc"`
	Ciphertext []byte `json:"ciphertext"`
}

// tokenFile seals the administrator to the authority, bound to serial number and
// key of the token.
func tokenFile(serial uint32, keys kiosk.TokenKeys, authority record.AuthorityKey, admin kiosk.TokenAdmin, now time.Time) ([]byte, error) {
	public, err := hpke.MLKEM768X25519().NewPublicKey(authority.Public)
	if err != nil {
		return nil, fmt.Errorf("authority key: %w", err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(tokenInfoLabel))
	if err != nil {
		return nil, fmt.Errorf("seal administrator: %w", err)
	}
	plain, err := json.Marshal(struct {
		PUK           []byte `json:"puk"`
		ManagementKey []byte `json:"management_key"`
	}{admin.PUK.Reveal(), admin.ManagementKey.Reveal()})
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	ciphertext, err := sender.Seal(tokenFileData(serial, keys.Authentication.Public), plain)
	if err != nil {
		return nil, fmt.Errorf("seal administrator: %w", err)
	}
	b, err := json.MarshalIndent(TokenFile{Version: 1, Serial: serial, Made: now.UTC().Truncate(time.Second),
		Authentication: TokenFileKey(keys.Authentication), KeyManagement: TokenFileKey(keys.KeyManagement),
		Admin: SealedAdmin{authority.ID, enc, ciphertext}}, "", "  ")
	return append(b, '\n'), err
}

// tokenFileData is the associated data of the seal: four bytes of serial number,
// big endian, then the public key in 9A as SubjectPublicKeyInfo.
func tokenFileData(serial uint32, public []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, serial), public...)
}
