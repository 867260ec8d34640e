package config

// effect is what giving a setting of a missing feature leads to.
type effect uint8

const (
	exists  effect = iota // the feature is there
	ignored               // one warning: nothing listens, nothing is called, and that shows by itself
	refused               // a problem: going on without it would send something that was not asked for
)

// laterSettings are the settings of features that this version does not have. Their names are known, so that one
// configuration serves several versions. Only those are refused without which webhooks would go out other than asked for.
func laterSettings() []setting {
	var list []setting
	add := func(effect effect, secret bool, names ...string) {
		for _, name := range names {
			list = append(list, setting{env: ownPrefix + name, secret: secret, inFile: true, pending: effect})
			if secret {
				list = append(list, setting{env: ownPrefix + name + fileSuffix, inFile: true, pending: effect})
			}
		}
	}
	add(refused, false, "SIGNING_SCHEME")
	add(refused, true, "SIGNING_SECRET")
	add(ignored, false, "API_LISTEN", "FILTER_LISTEN", "RECEIVER_LISTEN", "FILTER_DEADLINE", "LMS_BASE_URL", "SHOPIFY_SHOP_DOMAIN",
		"WOOCOMMERCE_SOURCE", "WOOCOMMERCE_REQUIRE_PAYMENT", "SKU_PREFIX", "AUTO_ENROLL", "SEND_ENROLLMENT_EMAIL", "ENROLL_RETRIES",
		"ENROLL_RETRY_DELAY")
	add(ignored, true, "FILTER_TOKENS", "API_TOKENS", "SECRETS_KEY", "LMS_OAUTH2_KEY", "LMS_OAUTH2_SECRET", "SHOPIFY_API_KEY",
		"WOOCOMMERCE_SECRET", "LERNITO_SECRET")
	return list
}
