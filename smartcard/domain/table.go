package domain

import (
	"crypto/elliptic"
	"encoding/asn1"
	"math/big"

	"github.com/osanderson/brainpool"
)

// curves are the curves of Doc 9303-11 table 6: NIST's (FIPS 186-4 D.1.2) and
// brainpool's r1 (RFC 5639 3).
var curves = map[int]*curve{
	8: nist(p192(), 1, 2, 840, 10045, 3, 1, 1),
	9: {brainpool.P192r1(), oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 3),
		number("6a91174076b1e0e19c39c031fe8685c1cae040e5c69a28ef"),
		number("469a28ef7c28cca3dc721d044f4496bcca7ef4146fbf25c9")},
	10: nist(elliptic.P224(), 1, 3, 132, 0, 33),
	11: {brainpool.P224r1(), oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 5),
		number("68a5e62ca9ce6c1c299803a6c1530b514e182ad8b0042a59cad29f43"),
		number("2580f63ccfe44138870713b1a92369e33e2135d266dbb372386c400b")},
	12: nist(elliptic.P256(), 1, 2, 840, 10045, 3, 1, 7),
	13: {brainpool.P256r1(), oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 7),
		number("7d5a0975fc2c3057eef67530417affe7fb8055c126dc5c6ce94a4b44f330b5d9"),
		number("26dc5c6ce94a4b44f330b5d9bbd77cbf958416295cf7e1ce6bccdc18ff8c07b6")},
	14: {brainpool.P320r1(), oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 9),
		number("3ee30b568fbab0f883ccebd46d3f3bb8a2a73513f5eb79da66190eb085ffa9f492f375a97d860eb4"),
		number("520883949dfdbc42d3ad198640688a6fe13f41349554b49acc31dccd884539816f5eb4ac8fb1f1a6")},
	15: nist(elliptic.P384(), 1, 3, 132, 0, 34),
	16: {brainpool.P384r1(), oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 11),
		number("7bc382c63d8c150c3c72080ace05afa0c2bea28e4fb22787139165efba91f90f8aa5814a503ad4eb04a8c7dd22ce2826"),
		number("04a8c7dd22ce28268b39b55416f0447c2fb77de107dcd2a62e880ea53eeb62d57cb4390295dbc9943ab78696fa504c11")},
	17: {brainpool.P512r1(), oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 13),
		number("7830a3318b603b89e2327145ac234cc594cbdd8d3df91610a83441caea9863bc2ded5d5aa8253aa10a2ef1c98b9ac8b57f1117a72bf2c7b9e7c1ac4d77fc94ca"),
		number("3df91610a83441caea9863bc2ded5d5aa8253aa10a2ef1c98b9ac8b57f1117a72bf2c7b9e7c1ac4d77fc94cadc083e67984050b75ebae5dd2809bd638016f723")},
	18: nist(elliptic.P521(), 1, 3, 132, 0, 35),
}

func oid(arcs ...int) asn1.ObjectIdentifier { return arcs }

func nist(c elliptic.Curve, arcs ...int) *curve {
	p := c.Params()
	return &curve{c, arcs, new(big.Int).Sub(p.P, big.NewInt(3)), p.B}
}

// p192 is NIST P-192, which the standard library lacks. Documents on it are
// weak; a reader opens them all the same.
func p192() elliptic.Curve {
	return &elliptic.CurveParams{
		Name: "P-192", BitSize: 192,
		P:  number("fffffffffffffffffffffffffffffffeffffffffffffffff"),
		N:  number("ffffffffffffffffffffffff99def836146bc9b1b4d22831"),
		B:  number("64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1"),
		Gx: number("188da80eb03090f67cbf20eb43a18800f4ff0afd82ff1012"),
		Gy: number("07192b95ffc8da78631011ed6b24cdd573f977a11e794811"),
	}
}

func number(hex string) *big.Int {
	n, _ := new(big.Int).SetString(hex, 16)
	return n
}

// fields are the groups of RFC 5114 2.1 to 2.3: 1024 bits with a subgroup of 160,
// 2048 with 224, 2048 with 256.
var fields = map[int]*field{
	0: {
		p: number("b10b8f96a080e01dde92de5eae5d54ec52c99fbcfb06a3c69a6a9dca52d23b61" +
			"6073e28675a23d189838ef1e2ee652c013ecb4aea906112324975c3cd49b83bf" +
			"accbdd7d90c4bd7098488e9c219a73724effd6fae5644738faa31a4ff55bccc0" +
			"a151af5f0dc8b4bd45bf37df365c1a65e68cfda76d4da708df1fb2bc2e4a4371"),
		q: number("f518aa8781a8df278aba4e7d64b7cb9d49462353"),
		g: number("a4d1cbd5c3fd34126765a442efb99905f8104dd258ac507fd6406cff14266d31" +
			"266fea1e5c41564b777e690f5504f213160217b4b01b886a5e91547f9e2749f4" +
			"d7fbd7d3b9a92ee1909d0d2263f80a76a6a24c087a091f531dbf0a0169b6a28a" +
			"d662a4d18e73afa32d779d5918d08bc8858f4dcef97c2a24855e6eeb22b3b2e5"),
	},
	1: {
		p: number("ad107e1e9123a9d0d660faa79559c51fa20d64e5683b9fd1b54b1597b61d0a75" +
			"e6fa141df95a56dbaf9a3c407ba1df15eb3d688a309c180e1de6b85a1274a0a6" +
			"6d3f8152ad6ac2129037c9edefda4df8d91e8fef55b7394b7ad5b7d0b6c12207" +
			"c9f98d11ed34dbf6c6ba0b2c8bbc27be6a00e0a0b9c49708b3bf8a3170918836" +
			"81286130bc8985db1602e714415d9330278273c7de31efdc7310f7121fd5a074" +
			"15987d9adc0a486dcdf93acc44328387315d75e198c641a480cd86a1b9e587e8" +
			"be60e69cc928b2b9c52172e413042e9b23f10b0e16e79763c9b53dcf4ba80a29" +
			"e3fb73c16b8e75b97ef363e2ffa31f71cf9de5384e71b81c0ac4dffe0c10e64f"),
		q: number("801c0d34c58d93fe997177101f80535a4738cebcbf389a99b36371eb"),
		g: number("ac4032ef4f2d9ae39df30b5c8ffdac506cdebe7b89998caf74866a08cfe4ffe3" +
			"a6824a4e10b9a6f0dd921f01a70c4afaab739d7700c29f52c57db17c620a8652" +
			"be5e9001a8d66ad7c17669101999024af4d027275ac1348bb8a762d0521bc98a" +
			"e247150422ea1ed409939d54da7460cdb5f6c6b250717cbef180eb34118e98d1" +
			"19529a45d6f834566e3025e316a330efbb77a86f0c1ab15b051ae3d428c8f8ac" +
			"b70a8137150b8eeb10e183edd19963ddd9e263e4770589ef6aa21e7f5f2ff381" +
			"b539cce3409d13cd566afbb48d6c019181e1bcfe94b30269edfe72fe9b6aa4bd" +
			"7b5a0f1c71cfff4c19c418e1f6ec017981bc087f2a7065b384b890d3191f2bfa"),
	},
	2: {
		p: number("87a8e61db4b6663cffbbd19c651959998ceef608660dd0f25d2ceed4435e3b00" +
			"e00df8f1d61957d4faf7df4561b2aa3016c3d91134096faa3bf4296d830e9a7c" +
			"209e0c6497517abd5a8a9d306bcf67ed91f9e6725b4758c022e0b1ef4275bf7b" +
			"6c5bfc11d45f9088b941f54eb1e59bb8bc39a0bf12307f5c4fdb70c581b23f76" +
			"b63acae1caa6b7902d52526735488a0ef13c6d9a51bfa4ab3ad8347796524d8e" +
			"f6a167b5a41825d967e144e5140564251ccacb83e6b486f6b3ca3f7971506026" +
			"c0b857f689962856ded4010abd0be621c3a3960a54e710c375f26375d7014103" +
			"a4b54330c198af126116d2276e11715f693877fad7ef09cadb094ae91e1a1597"),
		q: number("8cf83642a709a097b447997640129da299b1a47d1eb3750ba308b0fe64f5fbd3"),
		g: number("3fb32c9b73134d0b2e77506660edbd484ca7b18f21ef205407f4793a1a0ba125" +
			"10dbc15077be463fff4fed4aac0bb555be3a6c1b0c6b47b1bc3773bf7e8c6f62" +
			"901228f8c28cbb18a55ae31341000a650196f931c77a57f2ddf463e5e9ec144b" +
			"777de62aaab8a8628ac376d282d6ed3864e67982428ebc831d14348f6f2f9193" +
			"b5045af2767164e1dfc967c1fb3f2e55a4bd1bffe83b9c80d052b985d182ea0a" +
			"db2a3b7313d3fe14c8484b1e052588b9b7d2bbd2df016199ecd06e1557cd0915" +
			"b3353bbb64e0ec377fd028370df92b52c7891428cdc67eb6184b523d1db246c3" +
			"2f63078490f00ef8d647d148d47954515e2327cfef98c582664b4c0f6cc41659"),
	},
}
