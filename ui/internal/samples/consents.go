package samples

// consent is what a policy brings of its own in a language.
type consent struct {
	enrollment string // title of the one that is needed
	reminders  string // title of the free one
	text       string
	long       string // a sentence to be repeated
}

var consents = map[string]consent{
	"en": {"Enrollment for a digital identity", "Reminders about your ID card",
		"The police use your address and your telephone number to tell you when your ID card ends. They do nothing else with them. You can take this back at any police station.",
		"This text describes in full what the identity authority may do. "},
	"es": {"Inscripción para una identidad digital", "Avisos sobre su documento de identidad",
		"La policía usa su domicilio y su teléfono para avisarle cuando caduque su documento. No hace nada más con ellos. Puede retirarlo en cualquier comisaría.",
		"Este texto describe por completo lo que puede hacer la autoridad de identidad. "},
	"hi": {"डिजिटल पहचान के लिए पंजीकरण", "आपके पहचान पत्र की याद",
		"पुलिस आपके पते और टेलीफ़ोन नंबर से आपको बताती है कि आपका पहचान पत्र कब समाप्त होगा। उनका और कोई उपयोग नहीं होता। आप इसे किसी भी थाने में वापस ले सकते हैं।",
		"यह पाठ पूरा बताता है कि पहचान प्राधिकरण क्या कर सकता है। "},
	"zh": {"数字身份登记", "身份证到期提醒", "警方使用您的地址和电话号码，在您的身份证到期之前通知您，不作其他用途。您可以在任何派出所撤回同意。",
		"这段文字完整说明身份管理机关可以做什么，不可以做什么。"},
}
