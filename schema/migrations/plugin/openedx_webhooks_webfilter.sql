CREATE TABLE IF NOT EXISTS `openedx_webhooks_webfilter` (
  `id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY,
  `created` datetime(6) NOT NULL,
  `modified` datetime(6) NOT NULL,
  `description` longtext NOT NULL,
  `event` varchar(50) NOT NULL,
  `webhook_url` varchar(255) NOT NULL,
  `enabled` bool NOT NULL,
  `disable_halt` bool NOT NULL,
  `halt_on_4xx` bool NOT NULL,
  `redirect_on_4xx` varchar(255) NOT NULL,
  `halt_on_5xx` bool NOT NULL,
  `redirect_on_5xx` varchar(255) NOT NULL,
  `halt_on_request_exception` bool NOT NULL,
  `redirect_on_request_exception` varchar(255) NOT NULL,
  `disable_filtering` bool NOT NULL,
  `use_www_form_encoding` bool NOT NULL
)
