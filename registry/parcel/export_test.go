package parcel

// Spoil has f change a file after it was written and before it is read back.
func (d Drive) Spoil(f func(file string)) Drive {
	d.written = f
	return d
}

// Pad and Unpad are what seal and open do around a body.
var (
	Pad   = pad
	Unpad = unpad
)
