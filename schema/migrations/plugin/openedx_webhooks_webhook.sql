CREATE TABLE IF NOT EXISTS `openedx_webhooks_webhook` (
  `id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY,
  `created` datetime(6) NOT NULL,
  `modified` datetime(6) NOT NULL,
  `event` varchar(50) NOT NULL,
  `webhook_url` varchar(255) NOT NULL,
  `enabled` bool NOT NULL,
  `use_www_form_encoding` bool NOT NULL
)
