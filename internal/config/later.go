package config

// laterSettings are settings of features that this version lacks. Known, so that one configuration
// serves several versions; giving one causes a warning.
func laterSettings() []setting {
	var list []setting
	add := func(secret bool, names ...string) {
		for _, name := range names {
			list = append(list, setting{env: ownPrefix + name, secret: secret, inFile: true})
			if secret {
				list = append(list, setting{env: ownPrefix + name + fileSuffix, inFile: true})
			}
		}
	}
	add(false, "API_LISTEN", "RECEIVER_LISTEN", "LMS_BASE_URL", "SHOPIFY_SHOP_DOMAIN",
		"WOOCOMMERCE_SOURCE", "WOOCOMMERCE_REQUIRE_PAYMENT", "SKU_PREFIX", "AUTO_ENROLL", "SEND_ENROLLMENT_EMAIL", "ENROLL_RETRIES",
		"ENROLL_RETRY_DELAY")
	add(true, "API_TOKENS", "LMS_OAUTH2_KEY", "LMS_OAUTH2_SECRET", "SHOPIFY_API_KEY",
		"WOOCOMMERCE_SECRET", "LERNITO_SECRET")
	return list
}
