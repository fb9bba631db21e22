package window

import (
	"strings"

	"enrollkiosk/registry/credential"
)

// sentences are all texts in one language. A literal without names has all of them,
// or does not compile.
type sentences struct {
	title      string
	connecting string // while the website's request is fetched
	asks       string // below the website's name
	willKnow   string
	pseudonym  string
	claims     [7]string // in the order of claimNames
	willNot    string
	foreign    string // a name with xn--
	yes, no    string
	forGood    string // the name is shown
	typeSite   string
	showName   string
	pin        string
	wrong      string // %d tries left
	shield     string
	ok, erase  string
	touch      string
	done       string
	declined   string
	refused    string
	hardware   string
	network    string
	failed     string
	shut       string
}

var claimNames = [7]string{credential.RealNameVerified, credential.AgeOver14, credential.AgeOver16, credential.AgeOver18,
	credential.FamilyName, credential.GivenName, credential.NameLocal}

var languages = map[string]sentences{
	"en": {
		"Sign in", "Asking the website what it wants…", "asks you to sign in", "It will know", "a pseudonym that no other website gets",
		[7]string{"that the authority has verified who you are, not who that is", "whether you are over 14", "whether you are over 16", "whether you are over 18",
			"YOUR FAMILY NAME", "YOUR GIVEN NAME", "YOUR NAME in your document's own script"},
		"It will not know your name, or where else you sign in.", "This name has foreign letters (xn--): it may look like another website's.",
		"Sign in", "Decline", "This pseudonym will bear your name for good.", "Type the website's name to show yours", "Show my name",
		"PIN of your token", "Wrong PIN. Tries left: %d", "Let nobody see it.", "OK", "Delete", "Touch your token when it blinks",
		"You are signed in. Go on in your browser.", "Nothing was shown to the website.", "It was refused. Go back to the website and begin again.",
		"Check that your token is in, and begin again.", "No answer. Check the network connection and begin again.", "It did not work. Begin again at the website.", "Close",
	},
	"es": {
		"Iniciar sesión", "Preguntando al sitio web qué desea…", "le pide que inicie sesión", "Sabrá", "un seudónimo que ningún otro sitio web recibe",
		[7]string{"que la autoridad ha verificado quién es usted, no quién es", "si tiene más de 14 años", "si tiene más de 16 años", "si tiene más de 18 años",
			"SU APELLIDO", "SU NOMBRE", "SU NOMBRE en la escritura de su documento"},
		"No sabrá su nombre ni en qué otros sitios inicia sesión.", "Este nombre tiene letras extranjeras (xn--): puede parecerse al de otro sitio web.",
		"Iniciar sesión", "Rechazar", "Este seudónimo llevará su nombre para siempre.", "Escriba el nombre del sitio web para mostrar el suyo", "Mostrar mi nombre",
		"PIN de su llave", "PIN incorrecto. Intentos restantes: %d", "Que nadie lo vea.", "Aceptar", "Borrar", "Toque su llave cuando parpadee",
		"Ha iniciado sesión. Continúe en su navegador.", "No se mostró nada al sitio web.", "Se ha rechazado. Vuelva al sitio web y empiece de nuevo.",
		"Compruebe que su llave está conectada y empiece de nuevo.", "Sin respuesta. Compruebe la conexión de red y empiece de nuevo.", "No ha funcionado. Empiece de nuevo en el sitio web.", "Cerrar",
	},
	"hi": {
		"साइन इन", "वेबसाइट से पूछा जा रहा है कि वह क्या चाहती है…", "आपसे साइन इन करने को कहती है", "इसे पता चलेगा", "एक छद्म नाम, जो किसी और वेबसाइट को नहीं मिलता",
		[7]string{"कि प्राधिकरण ने आपकी पहचान सत्यापित की है, पर यह नहीं कि आप कौन हैं", "आपकी उम्र 14 से अधिक है या नहीं", "आपकी उम्र 16 से अधिक है या नहीं", "आपकी उम्र 18 से अधिक है या नहीं",
			"आपका कुलनाम", "आपका दिया गया नाम", "आपके दस्तावेज़ की लिपि में आपका नाम"},
		"इसे आपका नाम या यह पता नहीं चलेगा कि आप और कहाँ साइन इन करते हैं।", "इस नाम में विदेशी अक्षर हैं (xn--): यह किसी और वेबसाइट जैसा दिख सकता है।",
		"साइन इन करें", "मना करें", "इस छद्म नाम के साथ आपका नाम हमेशा के लिए जुड़ जाएगा।", "अपना नाम दिखाने के लिए वेबसाइट का नाम लिखें", "मेरा नाम दिखाएँ",
		"आपके टोकन का PIN", "गलत PIN। बचे प्रयास: %d", "किसी को देखने न दें।", "ठीक है", "मिटाएँ", "जब टोकन चमके तो उसे छुएँ",
		"आप साइन इन हो गए हैं। अपने ब्राउज़र में आगे बढ़ें।", "वेबसाइट को कुछ नहीं दिखाया गया।", "अस्वीकार किया गया। वेबसाइट पर लौटें और फिर से शुरू करें।",
		"देखें कि टोकन लगा है और फिर से शुरू करें।", "कोई उत्तर नहीं। नेटवर्क कनेक्शन जाँचें और फिर से शुरू करें।", "यह नहीं हो सका। वेबसाइट पर फिर से शुरू करें।", "बंद करें",
	},
	"zh": {
		"登录", "正在询问网站需要什么…", "请您登录", "它将知道", "一个其他网站都得不到的假名",
		[7]string{"主管机关已核实您的身份，但不知道您是谁", "您是否年满 14 岁", "您是否年满 16 岁", "您是否年满 18 岁", "您的姓", "您的名", "您证件上本国文字的姓名"},
		"它不会知道您的姓名，也不会知道您还在哪里登录。", "这个名称含有外文字母（xn--），可能与其他网站相似。",
		"登录", "拒绝", "这个假名将永远带有您的姓名。", "输入网站名称以出示您的姓名", "出示我的姓名",
		"您的令牌的 PIN", "PIN 错误。剩余次数：%d", "不要让别人看到。", "确定", "删除", "令牌闪烁时请触摸",
		"您已登录。请在浏览器中继续。", "没有向网站出示任何内容。", "已被拒绝。请返回网站重新开始。",
		"请检查令牌是否已插入，然后重新开始。", "没有应答。请检查网络连接，然后重新开始。", "没有成功。请在网站上重新开始。", "关闭",
	},
}

// wordsOf takes a locale (es_MX.UTF-8); English for a language that there is not.
func wordsOf(locale string) sentences {
	l, _, _ := strings.Cut(locale, "_")
	l, _, _ = strings.Cut(l, ".")
	if s, ok := languages[strings.ToLower(l)]; ok {
		return s
	}
	return languages["en"]
}
