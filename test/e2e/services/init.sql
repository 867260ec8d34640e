-- What a fresh server gets at each start: the platform's database; "lms", the account that owns it, as Django has it; and
-- "admin", for what only an administrator may do. The script accounts adds the dispatcher's own accounts.
CREATE DATABASE IF NOT EXISTS openedx CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE USER IF NOT EXISTS 'lms'@'%' IDENTIFIED BY 'lms';
GRANT ALL ON openedx.* TO 'lms'@'%';
CREATE USER IF NOT EXISTS 'admin'@'%' IDENTIFIED BY 'admin';
GRANT ALL ON *.* TO 'admin'@'%' WITH GRANT OPTION;
