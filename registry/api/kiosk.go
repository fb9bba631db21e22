package api

import "crypto/sha256"

// KioskRequest is what a new kiosk asks a certificate for: keys that its TPM
// made, with the TPM's own evidence. It is a file carried to the registry by
// hand. Member names are those of docs/openapi.yaml.
//
// RecordEvidence and TLSEvidence are TPM2_CertifyCreation's output of the two
// keys by AttestationKey, with qualifying data [KioskBinding].
type KioskRequest struct {
	Version        int         `json:"version"`          // 1
	KioskID        string      `json:"kiosk"`            // asked for, e.g. "KIOSK-0001"
	RecordCSR      []byte      `json:"record_csr"`       // PKCS #10, DER
	TLSCSR         []byte      `json:"tls_csr"`          // PKCS #10, DER
	AttestationKey []byte      `json:"attestation_key"`  // TPMT_PUBLIC of the AK
	EKCertificates [][]byte    `json:"ek_certificates"`  // DER
	RecordEvidence TPMEvidence `json:"record_evidence"`  //
	TLSEvidence    TPMEvidence `json:"tls_evidence"`     //
	StorageKeyName []byte      `json:"storage_key_name"` // Name of the parent of both keys
	CounterAtInit  uint64      `json:"counter"`          // the NV counter's value when the request was made
}

// TPMEvidence has the members of hsm.TPMEvidence.
type TPMEvidence struct {
	Public       []byte `json:"public"`
	CreationData []byte `json:"creation_data"`
	Attest       []byte `json:"attest"`
	Signature    []byte `json:"signature"`
}

// KioskCertificates is the registry's answer: certificate chains, leaf first,
// DER, without the root.
type KioskCertificates struct {
	Version int      `json:"version"` // 1
	KioskID string   `json:"kiosk"`
	Record  [][]byte `json:"record"`
	TLS     [][]byte `json:"tls"`
}

// KioskBinding is what a kiosk's keys are bound to at birth (outsideInfo) and
// what their evidence is qualified with: SHA-256("enrollkiosk/init/v1" || id).
func KioskBinding(kioskID string) [32]byte {
	return sha256.Sum256(append([]byte("enrollkiosk/init/v1"), kioskID...))
}
