PRAGMA application_id = 1263555148;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE bucket (
      id INTEGER PRIMARY KEY,
      budget TEXT NOT NULL,
      definition TEXT NOT NULL,
      labels TEXT NOT NULL,
      window_start TEXT NOT NULL,
      window_end TEXT NOT NULL,
      currency TEXT NOT NULL,
      cap INTEGER NOT NULL,
      held INTEGER NOT NULL DEFAULT 0,
      spent INTEGER NOT NULL DEFAULT 0,
      alerts TEXT NOT NULL,
      UNIQUE (budget, definition, labels, window_start)
    ) STRICT
    ;
INSERT INTO "bucket" VALUES(1,'all','53f4a9317d7c2f9d','{}','0001-01-01T00:00:00.000000+00:00','9999-12-31T00:00:00.000000+00:00','USD',400000000000,6021400000,17911333332,'["0.01", "0.5"]');
INSERT INTO "bucket" VALUES(2,'trailer','a2740a6c0c5184a6','{}','2026-11-01T00:00:00.000000+00:00','2026-12-01T00:00:00.000000+00:00','USD',50000000000,3570000000,4711333333,'[]');
INSERT INTO "bucket" VALUES(3,'each-user','b330916783fe478f','{"user":"li"}','2026-11-09T16:00:00.000000+00:00','2026-11-10T16:00:00.000000+00:00','USD',9000000000,0,3997333333,'[]');
INSERT INTO "bucket" VALUES(4,'yuan','a6ad78702b0933cf','{}','2026-11-01T04:00:00.000000+00:00','2027-02-01T05:00:00.000000+00:00','CNY',3000000000000,42893182715,38547399166,'[]');
INSERT INTO "bucket" VALUES(5,'each-user','b330916783fe478f','{"user":"wang"}','2026-11-09T16:00:00.000000+00:00','2026-11-10T16:00:00.000000+00:00','USD',9000000000,714000000,0,'[]');
INSERT INTO "bucket" VALUES(6,'each-user','b330916783fe478f','{"user":"zhao"}','2026-11-09T16:00:00.000000+00:00','2026-11-10T16:00:00.000000+00:00','USD',9000000000,1737400000,714000000,'[]');
INSERT INTO "bucket" VALUES(7,'capped','20f67a73b3835089','{}','2026-11-08T00:00:00.000000+00:00','2026-11-15T00:00:00.000000+00:00','USD',1800000000,1737400000,0,'[]');
INSERT INTO "bucket" VALUES(8,'each-user','b330916783fe478f','{"user":"li"}','2026-11-14T16:00:00.000000+00:00','2026-11-15T16:00:00.000000+00:00','USD',9000000000,714000000,699999999,'[]');
INSERT INTO "bucket" VALUES(9,'quarter','0d88b7e401f7fae7','{}','2026-10-01T00:00:00.000000+00:00','2027-01-01T00:00:00.000000+00:00','CNY',90000000000,42893182715,38547399166,'[]');
INSERT INTO "bucket" VALUES(10,'each-user','b330916783fe478f','{"user":"li"}','2026-11-20T16:00:00.000000+00:00','2026-11-21T16:00:00.000000+00:00','USD',9000000000,2856000000,0,'[]');
CREATE TABLE budget_revision (
      revision INTEGER PRIMARY KEY,
      digest TEXT NOT NULL,
      document TEXT NOT NULL,
      installed_at TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "budget_revision" VALUES(1,'97e68b605a558d3ea136b16eddeb7b68b9c4595594db1d828afc29a6f0b131bb','{"accounting_rates":[{"budget":"CNY","quote":"USD","rate":"7.123456789"}],"budgets":[{"alerts":["0.01","0.5"],"cap":"400","carry_over":false,"currency":"USD","keep":[],"match":{},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"all","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"lifetime"},{"alerts":[],"cap":"40","carry_over":false,"currency":"USD","keep":[],"match":{"project":"trailer"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"trailer","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"month"},{"alerts":[],"cap":"9","carry_over":false,"currency":"USD","keep":[],"match":{"user":"*"},"max_request":"8","min_duration_s":null,"min_resolution":null,"name":"each-user","on_exceed":"reject","timezone":"Asia/Shanghai","week_starts":"monday","window":"day"},{"alerts":[],"cap":"1.8","carry_over":false,"currency":"USD","keep":["audio"],"match":{"project":["autumn","winter"]},"max_request":null,"min_duration_s":3,"min_resolution":"720p","name":"capped","on_exceed":"cap","timezone":"UTC","week_starts":"sunday","window":"week"},{"alerts":[],"cap":"3000","carry_over":false,"currency":"CNY","keep":[],"match":{"project":"any"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"yuan","on_exceed":"reject","timezone":"America/New_York","week_starts":"monday","window":{"end":"2027-02-01","start":"2026-11-01"}}],"capping":{"models":[],"sacrifice":["duration_s","resolution","audio"]},"unmatched":"refuse"}','2026-11-10T09:30:00.000000+00:00');
INSERT INTO "budget_revision" VALUES(2,'3b0c840d537ed825391a3b01ca3f846983721d6be949d950b9dc2407a640a74f','{"accounting_rates":[{"budget":"CNY","quote":"USD","rate":"7.123456789"}],"budgets":[{"alerts":["0.01","0.5"],"cap":"400","carry_over":false,"currency":"USD","keep":[],"match":{},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"all","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"lifetime"},{"alerts":[],"cap":"50","carry_over":false,"currency":"USD","keep":[],"match":{"project":"trailer"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"trailer","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"month"},{"alerts":[],"cap":"9","carry_over":false,"currency":"USD","keep":[],"match":{"user":"*"},"max_request":"8","min_duration_s":null,"min_resolution":null,"name":"each-user","on_exceed":"reject","timezone":"Asia/Shanghai","week_starts":"monday","window":"day"},{"alerts":[],"cap":"1.8","carry_over":false,"currency":"USD","keep":["audio"],"match":{"project":["autumn","winter"]},"max_request":null,"min_duration_s":3,"min_resolution":"720p","name":"capped","on_exceed":"cap","timezone":"UTC","week_starts":"sunday","window":"week"},{"alerts":[],"cap":"3000","carry_over":false,"currency":"CNY","keep":[],"match":{"project":"any"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"yuan","on_exceed":"reject","timezone":"America/New_York","week_starts":"monday","window":{"end":"2027-02-01","start":"2026-11-01"}},{"alerts":[],"cap":"90","carry_over":true,"currency":"CNY","keep":[],"match":{"user":"any"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"quarter","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"quarter"}],"capping":{"models":[],"sacrifice":["duration_s","resolution","audio"]},"unmatched":"refuse"}','2026-11-15T09:56:00.000000+00:00');
CREATE TABLE journal (
      seq INTEGER PRIMARY KEY,
      at TEXT NOT NULL,
      kind TEXT NOT NULL,
      reservation TEXT REFERENCES reservation (id),
      bucket INTEGER REFERENCES bucket (id),
      held_delta INTEGER NOT NULL DEFAULT 0,
      spent_delta INTEGER NOT NULL DEFAULT 0,
      detail TEXT
    ) STRICT
    ;
INSERT INTO "journal" VALUES(1,'2026-11-10T09:30:00.000000+00:00','revision',NULL,NULL,0,0,'97e68b605a558d3ea136b16eddeb7b68b9c4595594db1d828afc29a6f0b131bb');
INSERT INTO "journal" VALUES(2,'2026-11-10T09:30:00.000000+00:00','opening',NULL,1,0,12500000000,NULL);
INSERT INTO "journal" VALUES(3,'2026-11-10T09:30:00.000000+00:00','alert',NULL,1,0,0,'0.01 of 400');
INSERT INTO "journal" VALUES(4,'2026-11-10T09:31:00.000000+00:00','reserve','6b82d8096affc049baf4d55cdd6d39f9',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(5,'2026-11-10T09:31:00.000000+00:00','reserve','6b82d8096affc049baf4d55cdd6d39f9',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(6,'2026-11-10T09:31:00.000000+00:00','reserve','6b82d8096affc049baf4d55cdd6d39f9',3,714000000,0,NULL);
INSERT INTO "journal" VALUES(7,'2026-11-10T09:31:00.000000+00:00','reserve','6b82d8096affc049baf4d55cdd6d39f9',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(8,'2026-11-10T09:31:00.000000+00:00','dispatch','6b82d8096affc049baf4d55cdd6d39f9',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(9,'2026-11-10T09:31:00.000000+00:00','bind','6b82d8096affc049baf4d55cdd6d39f9',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(10,'2026-11-10T09:31:00.000000+00:00','settle','6b82d8096affc049baf4d55cdd6d39f9',1,-714000000,714000000,'quote');
INSERT INTO "journal" VALUES(11,'2026-11-10T09:31:00.000000+00:00','settle','6b82d8096affc049baf4d55cdd6d39f9',2,-714000000,714000000,'quote');
INSERT INTO "journal" VALUES(12,'2026-11-10T09:31:00.000000+00:00','settle','6b82d8096affc049baf4d55cdd6d39f9',3,-714000000,714000000,'quote');
INSERT INTO "journal" VALUES(13,'2026-11-10T09:31:00.000000+00:00','settle','6b82d8096affc049baf4d55cdd6d39f9',4,-5086148148,5086148148,'quote');
INSERT INTO "journal" VALUES(14,'2026-11-10T09:32:00.000000+00:00','reserve','03268e07a5a3cdeb24c4c9de16b1384c',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(15,'2026-11-10T09:32:00.000000+00:00','reserve','03268e07a5a3cdeb24c4c9de16b1384c',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(16,'2026-11-10T09:32:00.000000+00:00','reserve','03268e07a5a3cdeb24c4c9de16b1384c',3,714000000,0,NULL);
INSERT INTO "journal" VALUES(17,'2026-11-10T09:32:00.000000+00:00','reserve','03268e07a5a3cdeb24c4c9de16b1384c',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(18,'2026-11-10T09:32:00.000000+00:00','dispatch','03268e07a5a3cdeb24c4c9de16b1384c',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(19,'2026-11-10T09:32:00.000000+00:00','bind','03268e07a5a3cdeb24c4c9de16b1384c',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(20,'2026-11-10T09:32:00.000000+00:00','settle','03268e07a5a3cdeb24c4c9de16b1384c',1,-714000000,700000000,'response');
INSERT INTO "journal" VALUES(21,'2026-11-10T09:32:00.000000+00:00','settle','03268e07a5a3cdeb24c4c9de16b1384c',2,-714000000,700000000,'response');
INSERT INTO "journal" VALUES(22,'2026-11-10T09:32:00.000000+00:00','settle','03268e07a5a3cdeb24c4c9de16b1384c',3,-714000000,700000000,'response');
INSERT INTO "journal" VALUES(23,'2026-11-10T09:32:00.000000+00:00','settle','03268e07a5a3cdeb24c4c9de16b1384c',4,-5086148148,4986419753,'response');
INSERT INTO "journal" VALUES(24,'2026-11-10T09:33:00.000000+00:00','reserve','858c767a940c5eb9d31af94d40e12df8',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(25,'2026-11-10T09:33:00.000000+00:00','reserve','858c767a940c5eb9d31af94d40e12df8',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(26,'2026-11-10T09:33:00.000000+00:00','reserve','858c767a940c5eb9d31af94d40e12df8',3,714000000,0,NULL);
INSERT INTO "journal" VALUES(27,'2026-11-10T09:33:00.000000+00:00','reserve','858c767a940c5eb9d31af94d40e12df8',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(28,'2026-11-10T09:33:00.000000+00:00','dispatch','858c767a940c5eb9d31af94d40e12df8',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(29,'2026-11-10T09:33:00.000000+00:00','bind','858c767a940c5eb9d31af94d40e12df8',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(30,'2026-11-10T09:33:00.000000+00:00','settle','858c767a940c5eb9d31af94d40e12df8',1,-714000000,700000000,'statement');
INSERT INTO "journal" VALUES(31,'2026-11-10T09:33:00.000000+00:00','settle','858c767a940c5eb9d31af94d40e12df8',2,-714000000,700000000,'statement');
INSERT INTO "journal" VALUES(32,'2026-11-10T09:33:00.000000+00:00','settle','858c767a940c5eb9d31af94d40e12df8',3,-714000000,700000000,'statement');
INSERT INTO "journal" VALUES(33,'2026-11-10T09:33:00.000000+00:00','settle','858c767a940c5eb9d31af94d40e12df8',4,-5086148148,4986419753,'statement');
INSERT INTO "journal" VALUES(34,'2026-11-10T09:34:00.000000+00:00','reserve','a4d1bb79c165c71241de49c83bd4656e',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(35,'2026-11-10T09:34:00.000000+00:00','reserve','a4d1bb79c165c71241de49c83bd4656e',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(36,'2026-11-10T09:34:00.000000+00:00','reserve','a4d1bb79c165c71241de49c83bd4656e',3,714000000,0,NULL);
INSERT INTO "journal" VALUES(37,'2026-11-10T09:34:00.000000+00:00','reserve','a4d1bb79c165c71241de49c83bd4656e',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(38,'2026-11-10T09:34:00.000000+00:00','dispatch','a4d1bb79c165c71241de49c83bd4656e',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(39,'2026-11-10T09:34:00.000000+00:00','bind','a4d1bb79c165c71241de49c83bd4656e',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(40,'2026-11-10T09:34:00.000000+00:00','settle','a4d1bb79c165c71241de49c83bd4656e',1,-714000000,650000000,'operator');
INSERT INTO "journal" VALUES(41,'2026-11-10T09:34:00.000000+00:00','settle','a4d1bb79c165c71241de49c83bd4656e',2,-714000000,650000000,'operator');
INSERT INTO "journal" VALUES(42,'2026-11-10T09:34:00.000000+00:00','settle','a4d1bb79c165c71241de49c83bd4656e',3,-714000000,650000000,'operator');
INSERT INTO "journal" VALUES(43,'2026-11-10T09:34:00.000000+00:00','settle','a4d1bb79c165c71241de49c83bd4656e',4,-5086148148,4630246913,'operator');
INSERT INTO "journal" VALUES(44,'2026-11-10T09:35:00.000000+00:00','reserve','c7046096b4712ce08a8207bcf88d2a20',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(45,'2026-11-10T09:35:00.000000+00:00','reserve','c7046096b4712ce08a8207bcf88d2a20',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(46,'2026-11-10T09:35:00.000000+00:00','reserve','c7046096b4712ce08a8207bcf88d2a20',3,714000000,0,NULL);
INSERT INTO "journal" VALUES(47,'2026-11-10T09:35:00.000000+00:00','reserve','c7046096b4712ce08a8207bcf88d2a20',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(48,'2026-11-10T09:35:00.000000+00:00','dispatch','c7046096b4712ce08a8207bcf88d2a20',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(49,'2026-11-10T09:35:00.000000+00:00','bind','c7046096b4712ce08a8207bcf88d2a20',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(50,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',1,-714000000,1000000000,'response');
INSERT INTO "journal" VALUES(51,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',2,-714000000,1000000000,'response');
INSERT INTO "journal" VALUES(52,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',3,-714000000,1000000000,'response');
INSERT INTO "journal" VALUES(53,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',4,-5086148148,7123456789,'response');
INSERT INTO "journal" VALUES(54,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',1,0,0,'1 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(55,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',2,0,0,'1 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(56,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',3,0,0,'1 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(57,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',4,0,0,'1 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(58,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',1,0,-100000000,'statement');
INSERT INTO "journal" VALUES(59,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',2,0,-100000000,'statement');
INSERT INTO "journal" VALUES(60,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',3,0,-100000000,'statement');
INSERT INTO "journal" VALUES(61,'2026-11-10T09:35:00.000000+00:00','settle','c7046096b4712ce08a8207bcf88d2a20',4,0,-712345678,'statement');
INSERT INTO "journal" VALUES(62,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',1,0,0,'0.9 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(63,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',2,0,0,'0.9 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(64,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',3,0,0,'0.9 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(65,'2026-11-10T09:35:00.000000+00:00','alert','c7046096b4712ce08a8207bcf88d2a20',4,0,0,'0.9 billed for c7046096b4712ce08a8207bcf88d2a20');
INSERT INTO "journal" VALUES(66,'2026-11-10T09:36:00.000000+00:00','reserve','4997b351c30132ca1fbbadf923f72178',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(67,'2026-11-10T09:36:00.000000+00:00','reserve','4997b351c30132ca1fbbadf923f72178',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(68,'2026-11-10T09:36:00.000000+00:00','reserve','4997b351c30132ca1fbbadf923f72178',5,714000000,0,NULL);
INSERT INTO "journal" VALUES(69,'2026-11-10T09:36:00.000000+00:00','reserve','4997b351c30132ca1fbbadf923f72178',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(70,'2026-11-10T09:36:00.000000+00:00','dispatch','4997b351c30132ca1fbbadf923f72178',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(71,'2026-11-10T09:36:00.000000+00:00','bind','4997b351c30132ca1fbbadf923f72178',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(72,'2026-11-10T09:36:00.000000+00:00','release','4997b351c30132ca1fbbadf923f72178',1,-714000000,0,'failed');
INSERT INTO "journal" VALUES(73,'2026-11-10T09:36:00.000000+00:00','release','4997b351c30132ca1fbbadf923f72178',2,-714000000,0,'failed');
INSERT INTO "journal" VALUES(74,'2026-11-10T09:36:00.000000+00:00','release','4997b351c30132ca1fbbadf923f72178',4,-5086148148,0,'failed');
INSERT INTO "journal" VALUES(75,'2026-11-10T09:36:00.000000+00:00','release','4997b351c30132ca1fbbadf923f72178',5,-714000000,0,'failed');
INSERT INTO "journal" VALUES(76,'2026-11-10T09:37:00.000000+00:00','reserve','98b3698d53dfedaa56e170191cbfaecf',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(77,'2026-11-10T09:37:00.000000+00:00','reserve','98b3698d53dfedaa56e170191cbfaecf',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(78,'2026-11-10T09:37:00.000000+00:00','reserve','98b3698d53dfedaa56e170191cbfaecf',5,714000000,0,NULL);
INSERT INTO "journal" VALUES(79,'2026-11-10T09:37:00.000000+00:00','reserve','98b3698d53dfedaa56e170191cbfaecf',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(80,'2026-11-10T09:37:00.000000+00:00','dispatch','98b3698d53dfedaa56e170191cbfaecf',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(81,'2026-11-10T09:37:00.000000+00:00','release','98b3698d53dfedaa56e170191cbfaecf',1,-714000000,0,'not charged, according to the operator');
INSERT INTO "journal" VALUES(82,'2026-11-10T09:37:00.000000+00:00','release','98b3698d53dfedaa56e170191cbfaecf',2,-714000000,0,'not charged, according to the operator');
INSERT INTO "journal" VALUES(83,'2026-11-10T09:37:00.000000+00:00','release','98b3698d53dfedaa56e170191cbfaecf',4,-5086148148,0,'not charged, according to the operator');
INSERT INTO "journal" VALUES(84,'2026-11-10T09:37:00.000000+00:00','release','98b3698d53dfedaa56e170191cbfaecf',5,-714000000,0,'not charged, according to the operator');
INSERT INTO "journal" VALUES(85,'2026-11-10T09:37:00.000000+00:00','reserve','d46cb5b1bd785e8a158a9c3e10e907a5',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(86,'2026-11-10T09:37:00.000000+00:00','reserve','d46cb5b1bd785e8a158a9c3e10e907a5',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(87,'2026-11-10T09:37:00.000000+00:00','reserve','d46cb5b1bd785e8a158a9c3e10e907a5',5,714000000,0,NULL);
INSERT INTO "journal" VALUES(88,'2026-11-10T09:37:00.000000+00:00','reserve','d46cb5b1bd785e8a158a9c3e10e907a5',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(89,'2026-11-10T09:37:00.000000+00:00','release','d46cb5b1bd785e8a158a9c3e10e907a5',1,-714000000,0,'changed my mind');
INSERT INTO "journal" VALUES(90,'2026-11-10T09:37:00.000000+00:00','release','d46cb5b1bd785e8a158a9c3e10e907a5',2,-714000000,0,'changed my mind');
INSERT INTO "journal" VALUES(91,'2026-11-10T09:37:00.000000+00:00','release','d46cb5b1bd785e8a158a9c3e10e907a5',4,-5086148148,0,'changed my mind');
INSERT INTO "journal" VALUES(92,'2026-11-10T09:37:00.000000+00:00','release','d46cb5b1bd785e8a158a9c3e10e907a5',5,-714000000,0,'changed my mind');
INSERT INTO "journal" VALUES(93,'2026-11-10T09:38:00.000000+00:00','reserve','562c07d2e7ce81688cdb9c43ef82a9f7',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(94,'2026-11-10T09:38:00.000000+00:00','reserve','562c07d2e7ce81688cdb9c43ef82a9f7',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(95,'2026-11-10T09:38:00.000000+00:00','reserve','562c07d2e7ce81688cdb9c43ef82a9f7',5,714000000,0,NULL);
INSERT INTO "journal" VALUES(96,'2026-11-10T09:38:00.000000+00:00','reserve','562c07d2e7ce81688cdb9c43ef82a9f7',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(97,'2026-11-10T09:38:00.000000+00:00','dispatch','562c07d2e7ce81688cdb9c43ef82a9f7',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(98,'2026-11-10T09:38:00.000000+00:00','bind','562c07d2e7ce81688cdb9c43ef82a9f7',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(99,'2026-11-10T09:38:00.000000+00:00','reserve','f7b1e22cba8b41bab9e4a1fdc1875fd4',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(100,'2026-11-10T09:38:00.000000+00:00','reserve','f7b1e22cba8b41bab9e4a1fdc1875fd4',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(101,'2026-11-10T09:38:00.000000+00:00','reserve','f7b1e22cba8b41bab9e4a1fdc1875fd4',6,714000000,0,NULL);
INSERT INTO "journal" VALUES(102,'2026-11-10T09:38:00.000000+00:00','reserve','f7b1e22cba8b41bab9e4a1fdc1875fd4',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(103,'2026-11-10T09:55:00.000000+00:00','expire','f7b1e22cba8b41bab9e4a1fdc1875fd4',1,-714000000,0,'expired');
INSERT INTO "journal" VALUES(104,'2026-11-10T09:55:00.000000+00:00','expire','f7b1e22cba8b41bab9e4a1fdc1875fd4',2,-714000000,0,'expired');
INSERT INTO "journal" VALUES(105,'2026-11-10T09:55:00.000000+00:00','expire','f7b1e22cba8b41bab9e4a1fdc1875fd4',4,-5086148148,0,'expired');
INSERT INTO "journal" VALUES(106,'2026-11-10T09:55:00.000000+00:00','expire','f7b1e22cba8b41bab9e4a1fdc1875fd4',6,-714000000,0,'expired');
INSERT INTO "journal" VALUES(107,'2026-11-10T09:55:00.000000+00:00','reserve','9c145f76dc15170df9d82bea34107fa2',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(108,'2026-11-10T09:55:00.000000+00:00','reserve','9c145f76dc15170df9d82bea34107fa2',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(109,'2026-11-10T09:55:00.000000+00:00','reserve','9c145f76dc15170df9d82bea34107fa2',6,714000000,0,NULL);
INSERT INTO "journal" VALUES(110,'2026-11-10T09:55:00.000000+00:00','reserve','9c145f76dc15170df9d82bea34107fa2',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(111,'2026-11-10T09:55:00.000000+00:00','dispatch','9c145f76dc15170df9d82bea34107fa2',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(112,'2026-11-10T09:55:00.000000+00:00','bind','9c145f76dc15170df9d82bea34107fa2',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(113,'2026-11-10T09:55:00.000000+00:00','settle','9c145f76dc15170df9d82bea34107fa2',1,-714000000,714000000,'response');
INSERT INTO "journal" VALUES(114,'2026-11-10T09:55:00.000000+00:00','settle','9c145f76dc15170df9d82bea34107fa2',2,-714000000,714000000,'response');
INSERT INTO "journal" VALUES(115,'2026-11-10T09:55:00.000000+00:00','settle','9c145f76dc15170df9d82bea34107fa2',4,-5086148148,5086148148,'response');
INSERT INTO "journal" VALUES(116,'2026-11-10T09:55:00.000000+00:00','settle','9c145f76dc15170df9d82bea34107fa2',6,-714000000,714000000,'response');
INSERT INTO "journal" VALUES(117,'2026-11-10T09:55:00.000000+00:00','reserve','f6a85284b76a1da609da3ca15b3da45c',1,761600000,0,NULL);
INSERT INTO "journal" VALUES(118,'2026-11-10T09:55:00.000000+00:00','reserve','f6a85284b76a1da609da3ca15b3da45c',6,761600000,0,NULL);
INSERT INTO "journal" VALUES(119,'2026-11-10T09:55:00.000000+00:00','reserve','f6a85284b76a1da609da3ca15b3da45c',7,761600000,0,NULL);
INSERT INTO "journal" VALUES(120,'2026-11-10T09:55:00.000000+00:00','reserve','f6a85284b76a1da609da3ca15b3da45c',4,5425224691,0,NULL);
INSERT INTO "journal" VALUES(121,'2026-11-10T09:55:00.000000+00:00','dispatch','f6a85284b76a1da609da3ca15b3da45c',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(122,'2026-11-10T09:55:00.000000+00:00','reserve','e7fb15f95909d3351ddb7eba098cd227',1,761600000,0,NULL);
INSERT INTO "journal" VALUES(123,'2026-11-10T09:55:00.000000+00:00','reserve','e7fb15f95909d3351ddb7eba098cd227',6,761600000,0,NULL);
INSERT INTO "journal" VALUES(124,'2026-11-10T09:55:00.000000+00:00','reserve','e7fb15f95909d3351ddb7eba098cd227',7,761600000,0,NULL);
INSERT INTO "journal" VALUES(125,'2026-11-10T09:55:00.000000+00:00','reserve','e7fb15f95909d3351ddb7eba098cd227',4,5425224691,0,NULL);
INSERT INTO "journal" VALUES(126,'2026-11-10T09:55:00.000000+00:00','dispatch','e7fb15f95909d3351ddb7eba098cd227',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(127,'2026-11-10T09:55:00.000000+00:00','reserve','29ac7bb2f14c332f833d2efe62425556',1,214200000,0,NULL);
INSERT INTO "journal" VALUES(128,'2026-11-10T09:55:00.000000+00:00','reserve','29ac7bb2f14c332f833d2efe62425556',6,214200000,0,NULL);
INSERT INTO "journal" VALUES(129,'2026-11-10T09:55:00.000000+00:00','reserve','29ac7bb2f14c332f833d2efe62425556',7,214200000,0,NULL);
INSERT INTO "journal" VALUES(130,'2026-11-10T09:55:00.000000+00:00','reserve','29ac7bb2f14c332f833d2efe62425556',4,1525844445,0,NULL);
INSERT INTO "journal" VALUES(131,'2026-11-10T09:55:00.000000+00:00','dispatch','29ac7bb2f14c332f833d2efe62425556',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(132,'2026-11-10T09:55:00.000000+00:00','record','51e0ce3aea1eabefe70741f898a149b0',1,0,333333333,NULL);
INSERT INTO "journal" VALUES(133,'2026-11-10T09:55:00.000000+00:00','record','51e0ce3aea1eabefe70741f898a149b0',2,0,333333333,NULL);
INSERT INTO "journal" VALUES(134,'2026-11-10T09:55:00.000000+00:00','record','51e0ce3aea1eabefe70741f898a149b0',3,0,333333333,NULL);
INSERT INTO "journal" VALUES(135,'2026-11-10T09:55:00.000000+00:00','record','51e0ce3aea1eabefe70741f898a149b0',4,0,2374485594,NULL);
INSERT INTO "journal" VALUES(136,'2026-11-15T09:56:00.000000+00:00','reserve','d25419722d6895054742905086d81442',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(137,'2026-11-15T09:56:00.000000+00:00','reserve','d25419722d6895054742905086d81442',8,714000000,0,NULL);
INSERT INTO "journal" VALUES(138,'2026-11-15T09:56:00.000000+00:00','reserve','d25419722d6895054742905086d81442',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(139,'2026-11-15T09:56:00.000000+00:00','dispatch','d25419722d6895054742905086d81442',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(140,'2026-11-15T09:56:00.000000+00:00','bind','d25419722d6895054742905086d81442',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(141,'2026-11-15T09:56:00.000000+00:00','carry_over','51e0ce3aea1eabefe70741f898a149b0',9,0,2374485594,NULL);
INSERT INTO "journal" VALUES(142,'2026-11-15T09:56:00.000000+00:00','carry_over','6b82d8096affc049baf4d55cdd6d39f9',9,0,5086148148,NULL);
INSERT INTO "journal" VALUES(143,'2026-11-15T09:56:00.000000+00:00','carry_over','03268e07a5a3cdeb24c4c9de16b1384c',9,0,4986419753,NULL);
INSERT INTO "journal" VALUES(144,'2026-11-15T09:56:00.000000+00:00','carry_over','858c767a940c5eb9d31af94d40e12df8',9,0,4986419753,NULL);
INSERT INTO "journal" VALUES(145,'2026-11-15T09:56:00.000000+00:00','carry_over','a4d1bb79c165c71241de49c83bd4656e',9,0,4630246913,NULL);
INSERT INTO "journal" VALUES(146,'2026-11-15T09:56:00.000000+00:00','carry_over','c7046096b4712ce08a8207bcf88d2a20',9,0,6411111111,NULL);
INSERT INTO "journal" VALUES(147,'2026-11-15T09:56:00.000000+00:00','carry_over','4997b351c30132ca1fbbadf923f72178',9,0,0,NULL);
INSERT INTO "journal" VALUES(148,'2026-11-15T09:56:00.000000+00:00','carry_over','98b3698d53dfedaa56e170191cbfaecf',9,0,0,NULL);
INSERT INTO "journal" VALUES(149,'2026-11-15T09:56:00.000000+00:00','carry_over','d46cb5b1bd785e8a158a9c3e10e907a5',9,0,0,NULL);
INSERT INTO "journal" VALUES(150,'2026-11-15T09:56:00.000000+00:00','carry_over','562c07d2e7ce81688cdb9c43ef82a9f7',9,5086148148,0,NULL);
INSERT INTO "journal" VALUES(151,'2026-11-15T09:56:00.000000+00:00','carry_over','f7b1e22cba8b41bab9e4a1fdc1875fd4',9,0,0,NULL);
INSERT INTO "journal" VALUES(152,'2026-11-15T09:56:00.000000+00:00','carry_over','9c145f76dc15170df9d82bea34107fa2',9,0,5086148148,NULL);
INSERT INTO "journal" VALUES(153,'2026-11-15T09:56:00.000000+00:00','carry_over','f6a85284b76a1da609da3ca15b3da45c',9,5425224691,0,NULL);
INSERT INTO "journal" VALUES(154,'2026-11-15T09:56:00.000000+00:00','carry_over','e7fb15f95909d3351ddb7eba098cd227',9,5425224691,0,NULL);
INSERT INTO "journal" VALUES(155,'2026-11-15T09:56:00.000000+00:00','carry_over','29ac7bb2f14c332f833d2efe62425556',9,1525844445,0,NULL);
INSERT INTO "journal" VALUES(156,'2026-11-15T09:56:00.000000+00:00','carry_over','d25419722d6895054742905086d81442',9,5086148148,0,NULL);
INSERT INTO "journal" VALUES(157,'2026-11-15T09:56:00.000000+00:00','revision',NULL,NULL,0,0,'3b0c840d537ed825391a3b01ca3f846983721d6be949d950b9dc2407a640a74f');
INSERT INTO "journal" VALUES(158,'2026-11-15T09:57:00.000000+00:00','reserve','b80846c6e99528e6ba0a9e6b438fc0e0',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(159,'2026-11-15T09:57:00.000000+00:00','reserve','b80846c6e99528e6ba0a9e6b438fc0e0',8,714000000,0,NULL);
INSERT INTO "journal" VALUES(160,'2026-11-15T09:57:00.000000+00:00','reserve','b80846c6e99528e6ba0a9e6b438fc0e0',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(161,'2026-11-15T09:57:00.000000+00:00','reserve','b80846c6e99528e6ba0a9e6b438fc0e0',9,5086148148,0,NULL);
INSERT INTO "journal" VALUES(162,'2026-11-15T09:57:00.000000+00:00','dispatch','b80846c6e99528e6ba0a9e6b438fc0e0',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(163,'2026-11-15T09:57:00.000000+00:00','bind','b80846c6e99528e6ba0a9e6b438fc0e0',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(164,'2026-11-15T09:57:00.000000+00:00','doubt','6b82d8096affc049baf4d55cdd6d39f9',NULL,0,0,'cost is 0.5, which is not a whole number of units and may be money');
INSERT INTO "journal" VALUES(165,'2026-11-15T09:57:00.000000+00:00','alert','6b82d8096affc049baf4d55cdd6d39f9',1,0,0,'charge of 6b82d8096affc049baf4d55cdd6d39f9: cost is 0.5, which is not a whole number of units and may be money');
INSERT INTO "journal" VALUES(166,'2026-11-15T09:57:00.000000+00:00','alert','6b82d8096affc049baf4d55cdd6d39f9',2,0,0,'charge of 6b82d8096affc049baf4d55cdd6d39f9: cost is 0.5, which is not a whole number of units and may be money');
INSERT INTO "journal" VALUES(167,'2026-11-15T09:57:00.000000+00:00','alert','6b82d8096affc049baf4d55cdd6d39f9',3,0,0,'charge of 6b82d8096affc049baf4d55cdd6d39f9: cost is 0.5, which is not a whole number of units and may be money');
INSERT INTO "journal" VALUES(168,'2026-11-15T09:57:00.000000+00:00','alert','6b82d8096affc049baf4d55cdd6d39f9',4,0,0,'charge of 6b82d8096affc049baf4d55cdd6d39f9: cost is 0.5, which is not a whole number of units and may be money');
INSERT INTO "journal" VALUES(169,'2026-11-15T09:57:00.000000+00:00','alert','6b82d8096affc049baf4d55cdd6d39f9',9,0,0,'charge of 6b82d8096affc049baf4d55cdd6d39f9: cost is 0.5, which is not a whole number of units and may be money');
INSERT INTO "journal" VALUES(170,'2026-11-15T09:57:00.000000+00:00','settle','d25419722d6895054742905086d81442',1,-714000000,699999999,'statement');
INSERT INTO "journal" VALUES(171,'2026-11-15T09:57:00.000000+00:00','settle','d25419722d6895054742905086d81442',4,-5086148148,4986419746,'statement');
INSERT INTO "journal" VALUES(172,'2026-11-15T09:57:00.000000+00:00','settle','d25419722d6895054742905086d81442',8,-714000000,699999999,'statement');
INSERT INTO "journal" VALUES(173,'2026-11-15T09:57:00.000000+00:00','settle','d25419722d6895054742905086d81442',9,-5086148148,4986419746,'statement');
INSERT INTO "journal" VALUES(174,'2026-11-21T09:21:00.000000+00:00','reserve','7a6a04d6d9655491bcd6f7ac22d5371d',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(175,'2026-11-21T09:21:00.000000+00:00','reserve','7a6a04d6d9655491bcd6f7ac22d5371d',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(176,'2026-11-21T09:21:00.000000+00:00','reserve','7a6a04d6d9655491bcd6f7ac22d5371d',10,714000000,0,NULL);
INSERT INTO "journal" VALUES(177,'2026-11-21T09:21:00.000000+00:00','reserve','7a6a04d6d9655491bcd6f7ac22d5371d',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(178,'2026-11-21T09:21:00.000000+00:00','reserve','7a6a04d6d9655491bcd6f7ac22d5371d',9,5086148148,0,NULL);
INSERT INTO "journal" VALUES(179,'2026-11-21T09:21:00.000000+00:00','dispatch','7a6a04d6d9655491bcd6f7ac22d5371d',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(180,'2026-11-21T09:21:00.000000+00:00','doubt','7a6a04d6d9655491bcd6f7ac22d5371d',NULL,0,0,'timeout');
INSERT INTO "journal" VALUES(181,'2026-11-21T09:22:00.000000+00:00','reserve','72333931d3c3756413488d4b7e6e2d0d',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(182,'2026-11-21T09:22:00.000000+00:00','reserve','72333931d3c3756413488d4b7e6e2d0d',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(183,'2026-11-21T09:22:00.000000+00:00','reserve','72333931d3c3756413488d4b7e6e2d0d',10,714000000,0,NULL);
INSERT INTO "journal" VALUES(184,'2026-11-21T09:22:00.000000+00:00','reserve','72333931d3c3756413488d4b7e6e2d0d',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(185,'2026-11-21T09:22:00.000000+00:00','reserve','72333931d3c3756413488d4b7e6e2d0d',9,5086148148,0,NULL);
INSERT INTO "journal" VALUES(186,'2026-11-21T09:22:00.000000+00:00','dispatch','72333931d3c3756413488d4b7e6e2d0d',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(187,'2026-11-21T09:29:00.000000+00:00','reserve','762ca12e968817b55df8a53fbfc222b6',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(188,'2026-11-21T09:29:00.000000+00:00','reserve','762ca12e968817b55df8a53fbfc222b6',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(189,'2026-11-21T09:29:00.000000+00:00','reserve','762ca12e968817b55df8a53fbfc222b6',10,714000000,0,NULL);
INSERT INTO "journal" VALUES(190,'2026-11-21T09:29:00.000000+00:00','reserve','762ca12e968817b55df8a53fbfc222b6',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(191,'2026-11-21T09:29:00.000000+00:00','reserve','762ca12e968817b55df8a53fbfc222b6',9,5086148148,0,NULL);
INSERT INTO "journal" VALUES(192,'2026-11-21T09:29:00.000000+00:00','dispatch','762ca12e968817b55df8a53fbfc222b6',NULL,0,0,NULL);
INSERT INTO "journal" VALUES(193,'2026-11-21T09:29:00.000000+00:00','reserve','c9c8015742ec0aabfb7ecb451722d568',1,714000000,0,NULL);
INSERT INTO "journal" VALUES(194,'2026-11-21T09:29:00.000000+00:00','reserve','c9c8015742ec0aabfb7ecb451722d568',2,714000000,0,NULL);
INSERT INTO "journal" VALUES(195,'2026-11-21T09:29:00.000000+00:00','reserve','c9c8015742ec0aabfb7ecb451722d568',10,714000000,0,NULL);
INSERT INTO "journal" VALUES(196,'2026-11-21T09:29:00.000000+00:00','reserve','c9c8015742ec0aabfb7ecb451722d568',4,5086148148,0,NULL);
INSERT INTO "journal" VALUES(197,'2026-11-21T09:29:00.000000+00:00','reserve','c9c8015742ec0aabfb7ecb451722d568',9,5086148148,0,NULL);
CREATE TABLE observation (
      id INTEGER PRIMARY KEY,
      provider TEXT NOT NULL,
      task_id TEXT NOT NULL,
      state TEXT,
      duration_s TEXT,
      model TEXT,
      seen_at TEXT NOT NULL
    , charge TEXT, facts TEXT) STRICT
    ;
INSERT INTO "observation" VALUES(1,'qingbo','t-1','succeeded',NULL,NULL,'2026-11-10T09:31:00.000000+00:00',NULL,NULL);
INSERT INTO "observation" VALUES(2,'qingbo','t-2','succeeded',NULL,NULL,'2026-11-10T09:32:00.000000+00:00','{"parts":[["350000","quota"]]}',NULL);
INSERT INTO "observation" VALUES(3,'qingbo','t-5','succeeded',NULL,NULL,'2026-11-10T09:35:00.000000+00:00','{"parts":[["500000","quota"]]}',NULL);
INSERT INTO "observation" VALUES(4,'qingbo','t-6','failed',NULL,NULL,'2026-11-10T09:36:00.000000+00:00','{"parts":[["0","quota"]]}',NULL);
INSERT INTO "observation" VALUES(5,'qingbo','t-8','succeeded',NULL,NULL,'2026-11-10T09:54:00.000000+00:00','{"parts":[["357000","quota"]]}',NULL);
INSERT INTO "observation" VALUES(6,'qingbo','stray','succeeded',NULL,NULL,'2026-11-10T09:55:00.000000+00:00','{"parts":[["123","quota"]]}',NULL);
INSERT INTO "observation" VALUES(7,'qingbo','t-10','processing',NULL,NULL,'2026-11-15T09:57:00.000000+00:00',NULL,NULL);
INSERT INTO "observation" VALUES(8,'qingbo','t-1','succeeded',NULL,NULL,'2026-11-15T09:57:00.000000+00:00','{"parts":[],"problem":"cost is 0.5, which is not a whole number of units and may be money"}',NULL);
INSERT INTO "observation" VALUES(9,'tencent-vod','stray','succeeded','5','kling-3.0-omni-720p-noref-audio','2026-11-21T09:30:00.000000+00:00',NULL,'{"audio":true,"reference":false,"resolution":"720p"}');
CREATE TABLE reservation (
      id TEXT NOT NULL PRIMARY KEY,
      project TEXT NOT NULL,
      key TEXT NOT NULL,
      attempt INTEGER NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('reserved', 'dispatching', 'bound', 'settled', 'released')),
      doubted INTEGER NOT NULL DEFAULT 0,
      provider TEXT NOT NULL,
      task_id TEXT,
      wire_format TEXT NOT NULL,
      model TEXT NOT NULL,
      resolution TEXT NOT NULL,
      tier TEXT NOT NULL,
      quantity TEXT NOT NULL,
      unit TEXT NOT NULL,
      currency TEXT NOT NULL,
      expected INTEGER NOT NULL,
      reserved INTEGER NOT NULL,
      billed INTEGER,
      basis TEXT CHECK (basis IN ('quote', 'response', 'statement', 'operator')),
      price_table TEXT NOT NULL,
      table_digest TEXT NOT NULL,
      statement_unit TEXT,
      unit_value TEXT,
      failed_tasks TEXT NOT NULL,
      labels TEXT NOT NULL,
      changes TEXT NOT NULL,
      reason TEXT,
      fingerprint TEXT NOT NULL,
      created_at TEXT NOT NULL,
      dispatched_at TEXT,
      closed_at TEXT,
      deadline TEXT NOT NULL, list_total INTEGER, minimum INTEGER, pack_units TEXT, account_currency TEXT,
      UNIQUE (project, key, attempt),
      CHECK ((state = 'settled') = (billed IS NOT NULL)),
      CHECK ((billed IS NULL) = (basis IS NULL))
    ) STRICT
    ;
INSERT INTO "reservation" VALUES('6b82d8096affc049baf4d55cdd6d39f9','trailer','quoted',1,'settled',1,'qingbo','t-1','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,714000000,'quote','qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}','cost is 0.5, which is not a whole number of units and may be money','e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:31:00.000000+00:00','2026-11-10T09:31:00.000000+00:00','2026-11-10T09:31:00.000000+00:00','2026-11-10T09:36:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('03268e07a5a3cdeb24c4c9de16b1384c','trailer','charged',1,'settled',0,'qingbo','t-2','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,700000000,'response','qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:32:00.000000+00:00','2026-11-10T09:32:00.000000+00:00','2026-11-10T09:32:00.000000+00:00','2026-11-10T09:37:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('858c767a940c5eb9d31af94d40e12df8','trailer','stated',1,'settled',0,'qingbo','t-3','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,700000000,'statement','qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:33:00.000000+00:00','2026-11-10T09:33:00.000000+00:00','2026-11-10T09:33:00.000000+00:00','2026-11-10T09:38:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('a4d1bb79c165c71241de49c83bd4656e','trailer','resolved',1,'settled',0,'qingbo','t-4','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,650000000,'operator','qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:34:00.000000+00:00','2026-11-10T09:34:00.000000+00:00','2026-11-10T09:34:00.000000+00:00','2026-11-10T09:39:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('c7046096b4712ce08a8207bcf88d2a20','trailer','overrun',1,'settled',0,'qingbo','t-5','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,900000000,'statement','qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:35:00.000000+00:00','2026-11-10T09:35:00.000000+00:00','2026-11-10T09:35:00.000000+00:00','2026-11-10T09:40:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('4997b351c30132ca1fbbadf923f72178','trailer','refunded',1,'released',0,'qingbo','t-6','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"wang"}','{}','failed','e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:36:00.000000+00:00','2026-11-10T09:36:00.000000+00:00','2026-11-10T09:36:00.000000+00:00','2026-11-10T09:41:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('98b3698d53dfedaa56e170191cbfaecf','trailer','not charged',1,'released',0,'qingbo',NULL,'tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"wang"}','{}','not charged, according to the operator','e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:37:00.000000+00:00','2026-11-10T09:37:00.000000+00:00','2026-11-10T09:37:00.000000+00:00','2026-11-10T09:42:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('d46cb5b1bd785e8a158a9c3e10e907a5','trailer','again',1,'released',0,'qingbo',NULL,'tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"wang"}','{}','changed my mind','e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:37:00.000000+00:00',NULL,'2026-11-10T09:37:00.000000+00:00','2026-11-10T09:52:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('562c07d2e7ce81688cdb9c43ef82a9f7','trailer','again',2,'bound',0,'qingbo','t-7','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"wang"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:38:00.000000+00:00','2026-11-10T09:38:00.000000+00:00',NULL,'2026-11-10T09:43:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('f7b1e22cba8b41bab9e4a1fdc1875fd4','trailer','late',1,'released',0,'qingbo',NULL,'tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"zhao"}','{}','expired','e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:38:00.000000+00:00',NULL,'2026-11-10T09:55:00.000000+00:00','2026-11-10T09:53:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('9c145f76dc15170df9d82bea34107fa2','trailer','seen before',1,'settled',0,'qingbo','t-8','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,714000000,'response','qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"zhao"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-10T09:55:00.000000+00:00','2026-11-10T09:55:00.000000+00:00','2026-11-10T09:55:00.000000+00:00','2026-11-10T10:00:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('f6a85284b76a1da609da3ca15b3da45c','autumn','capped 0',1,'dispatching',0,'qingbo',NULL,'tasks','kling-v3','1080p','silent','8','second','USD',761600000,761600000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"autumn","user":"zhao"}','{}',NULL,'0359b1cce429063a97c146d5a1bc390d1ca435e628999af11f6840a5ac7d7f63','2026-11-10T09:55:00.000000+00:00','2026-11-10T09:55:00.000000+00:00',NULL,'2026-11-10T10:00:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('e7fb15f95909d3351ddb7eba098cd227','autumn','capped 1',1,'dispatching',0,'qingbo',NULL,'tasks','kling-v3','1080p','silent','8','second','USD',761600000,761600000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"autumn","user":"zhao"}','{}',NULL,'0359b1cce429063a97c146d5a1bc390d1ca435e628999af11f6840a5ac7d7f63','2026-11-10T09:55:00.000000+00:00','2026-11-10T09:55:00.000000+00:00',NULL,'2026-11-10T10:00:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('29ac7bb2f14c332f833d2efe62425556','autumn','capped 2',1,'dispatching',0,'qingbo',NULL,'tasks','kling-v3','720p','silent','3','second','USD',214200000,214200000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"autumn","user":"zhao"}','{"duration_s":3,"resolution":"720p"}',NULL,'0359b1cce429063a97c146d5a1bc390d1ca435e628999af11f6840a5ac7d7f63','2026-11-10T09:55:00.000000+00:00','2026-11-10T09:55:00.000000+00:00',NULL,'2026-11-10T10:00:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('51e0ce3aea1eabefe70741f898a149b0','trailer','2da48c7a7f71431985a8bc22e4ad21c2',1,'settled',0,'qingbo','elsewhere','','','','','1','task','USD',333333333,333333333,333333333,'operator','','',NULL,NULL,'unconfirmed','{"project":"trailer","user":"li"}','{}',NULL,'04cbd2f558287f2265a92dc22c7fd8556f4c931dea0eeaa13fe28c4865c66bbd','2026-11-10T09:30:00.000000+00:00','2026-11-10T09:30:00.000000+00:00','2026-11-10T09:55:00.000000+00:00','2026-11-10T09:30:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('d25419722d6895054742905086d81442','any','in window two',1,'settled',0,'qingbo','t-9','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,699999999,'statement','qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"any","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-15T09:56:00.000000+00:00','2026-11-15T09:56:00.000000+00:00','2026-11-15T09:57:00.000000+00:00','2026-11-15T10:01:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('b80846c6e99528e6ba0a9e6b438fc0e0','any','after',1,'bound',0,'qingbo','t-10','tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"any","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-15T09:57:00.000000+00:00','2026-11-15T09:57:00.000000+00:00',NULL,'2026-11-15T10:02:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('7a6a04d6d9655491bcd6f7ac22d5371d','trailer','in doubt',1,'dispatching',1,'qingbo',NULL,'tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}','timeout','e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-21T09:21:00.000000+00:00','2026-11-21T09:21:00.000000+00:00',NULL,'2026-11-21T09:26:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('72333931d3c3756413488d4b7e6e2d0d','trailer','overdue',1,'dispatching',0,'qingbo',NULL,'tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-21T09:22:00.000000+00:00','2026-11-21T09:22:00.000000+00:00',NULL,'2026-11-21T09:27:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('762ca12e968817b55df8a53fbfc222b6','trailer','dispatching',1,'dispatching',0,'qingbo',NULL,'tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-21T09:29:00.000000+00:00','2026-11-21T09:29:00.000000+00:00',NULL,'2026-11-21T09:34:00.000000+00:00',NULL,NULL,NULL,NULL);
INSERT INTO "reservation" VALUES('c9c8015742ec0aabfb7ecb451722d568','trailer','reserved',1,'reserved',0,'qingbo',NULL,'tasks','kling-v3','1080p','audio','5','second','USD',714000000,714000000,NULL,NULL,'qingbo/2026-04-29','7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913','quota','0.000002','refunded','{"project":"trailer","user":"li"}','{}',NULL,'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53','2026-11-21T09:29:00.000000+00:00',NULL,NULL,'2026-11-21T09:44:00.000000+00:00',NULL,NULL,NULL,NULL);
CREATE TABLE reservation_line (
      reservation TEXT NOT NULL REFERENCES reservation (id),
      bucket INTEGER NOT NULL REFERENCES bucket (id),
      held INTEGER NOT NULL,
      spent INTEGER NOT NULL DEFAULT 0,
      rate TEXT,
      PRIMARY KEY (reservation, bucket)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "reservation_line" VALUES('03268e07a5a3cdeb24c4c9de16b1384c',1,714000000,700000000,NULL);
INSERT INTO "reservation_line" VALUES('03268e07a5a3cdeb24c4c9de16b1384c',2,714000000,700000000,NULL);
INSERT INTO "reservation_line" VALUES('03268e07a5a3cdeb24c4c9de16b1384c',3,714000000,700000000,NULL);
INSERT INTO "reservation_line" VALUES('03268e07a5a3cdeb24c4c9de16b1384c',4,5086148148,4986419753,'7.123456789');
INSERT INTO "reservation_line" VALUES('03268e07a5a3cdeb24c4c9de16b1384c',9,5086148148,4986419753,'7.123456789');
INSERT INTO "reservation_line" VALUES('29ac7bb2f14c332f833d2efe62425556',1,214200000,0,NULL);
INSERT INTO "reservation_line" VALUES('29ac7bb2f14c332f833d2efe62425556',4,1525844445,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('29ac7bb2f14c332f833d2efe62425556',6,214200000,0,NULL);
INSERT INTO "reservation_line" VALUES('29ac7bb2f14c332f833d2efe62425556',7,214200000,0,NULL);
INSERT INTO "reservation_line" VALUES('29ac7bb2f14c332f833d2efe62425556',9,1525844445,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('4997b351c30132ca1fbbadf923f72178',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('4997b351c30132ca1fbbadf923f72178',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('4997b351c30132ca1fbbadf923f72178',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('4997b351c30132ca1fbbadf923f72178',5,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('4997b351c30132ca1fbbadf923f72178',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('51e0ce3aea1eabefe70741f898a149b0',1,0,333333333,NULL);
INSERT INTO "reservation_line" VALUES('51e0ce3aea1eabefe70741f898a149b0',2,0,333333333,NULL);
INSERT INTO "reservation_line" VALUES('51e0ce3aea1eabefe70741f898a149b0',3,0,333333333,NULL);
INSERT INTO "reservation_line" VALUES('51e0ce3aea1eabefe70741f898a149b0',4,0,2374485594,'7.123456789');
INSERT INTO "reservation_line" VALUES('51e0ce3aea1eabefe70741f898a149b0',9,2374485594,2374485594,'7.123456789');
INSERT INTO "reservation_line" VALUES('562c07d2e7ce81688cdb9c43ef82a9f7',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('562c07d2e7ce81688cdb9c43ef82a9f7',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('562c07d2e7ce81688cdb9c43ef82a9f7',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('562c07d2e7ce81688cdb9c43ef82a9f7',5,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('562c07d2e7ce81688cdb9c43ef82a9f7',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('6b82d8096affc049baf4d55cdd6d39f9',1,714000000,714000000,NULL);
INSERT INTO "reservation_line" VALUES('6b82d8096affc049baf4d55cdd6d39f9',2,714000000,714000000,NULL);
INSERT INTO "reservation_line" VALUES('6b82d8096affc049baf4d55cdd6d39f9',3,714000000,714000000,NULL);
INSERT INTO "reservation_line" VALUES('6b82d8096affc049baf4d55cdd6d39f9',4,5086148148,5086148148,'7.123456789');
INSERT INTO "reservation_line" VALUES('6b82d8096affc049baf4d55cdd6d39f9',9,5086148148,5086148148,'7.123456789');
INSERT INTO "reservation_line" VALUES('72333931d3c3756413488d4b7e6e2d0d',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('72333931d3c3756413488d4b7e6e2d0d',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('72333931d3c3756413488d4b7e6e2d0d',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('72333931d3c3756413488d4b7e6e2d0d',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('72333931d3c3756413488d4b7e6e2d0d',10,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('762ca12e968817b55df8a53fbfc222b6',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('762ca12e968817b55df8a53fbfc222b6',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('762ca12e968817b55df8a53fbfc222b6',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('762ca12e968817b55df8a53fbfc222b6',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('762ca12e968817b55df8a53fbfc222b6',10,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('7a6a04d6d9655491bcd6f7ac22d5371d',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('7a6a04d6d9655491bcd6f7ac22d5371d',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('7a6a04d6d9655491bcd6f7ac22d5371d',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('7a6a04d6d9655491bcd6f7ac22d5371d',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('7a6a04d6d9655491bcd6f7ac22d5371d',10,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('858c767a940c5eb9d31af94d40e12df8',1,714000000,700000000,NULL);
INSERT INTO "reservation_line" VALUES('858c767a940c5eb9d31af94d40e12df8',2,714000000,700000000,NULL);
INSERT INTO "reservation_line" VALUES('858c767a940c5eb9d31af94d40e12df8',3,714000000,700000000,NULL);
INSERT INTO "reservation_line" VALUES('858c767a940c5eb9d31af94d40e12df8',4,5086148148,4986419753,'7.123456789');
INSERT INTO "reservation_line" VALUES('858c767a940c5eb9d31af94d40e12df8',9,5086148148,4986419753,'7.123456789');
INSERT INTO "reservation_line" VALUES('98b3698d53dfedaa56e170191cbfaecf',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('98b3698d53dfedaa56e170191cbfaecf',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('98b3698d53dfedaa56e170191cbfaecf',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('98b3698d53dfedaa56e170191cbfaecf',5,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('98b3698d53dfedaa56e170191cbfaecf',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('9c145f76dc15170df9d82bea34107fa2',1,714000000,714000000,NULL);
INSERT INTO "reservation_line" VALUES('9c145f76dc15170df9d82bea34107fa2',2,714000000,714000000,NULL);
INSERT INTO "reservation_line" VALUES('9c145f76dc15170df9d82bea34107fa2',4,5086148148,5086148148,'7.123456789');
INSERT INTO "reservation_line" VALUES('9c145f76dc15170df9d82bea34107fa2',6,714000000,714000000,NULL);
INSERT INTO "reservation_line" VALUES('9c145f76dc15170df9d82bea34107fa2',9,5086148148,5086148148,'7.123456789');
INSERT INTO "reservation_line" VALUES('a4d1bb79c165c71241de49c83bd4656e',1,714000000,650000000,NULL);
INSERT INTO "reservation_line" VALUES('a4d1bb79c165c71241de49c83bd4656e',2,714000000,650000000,NULL);
INSERT INTO "reservation_line" VALUES('a4d1bb79c165c71241de49c83bd4656e',3,714000000,650000000,NULL);
INSERT INTO "reservation_line" VALUES('a4d1bb79c165c71241de49c83bd4656e',4,5086148148,4630246913,'7.123456789');
INSERT INTO "reservation_line" VALUES('a4d1bb79c165c71241de49c83bd4656e',9,5086148148,4630246913,'7.123456789');
INSERT INTO "reservation_line" VALUES('b80846c6e99528e6ba0a9e6b438fc0e0',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('b80846c6e99528e6ba0a9e6b438fc0e0',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('b80846c6e99528e6ba0a9e6b438fc0e0',8,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('b80846c6e99528e6ba0a9e6b438fc0e0',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('c7046096b4712ce08a8207bcf88d2a20',1,714000000,900000000,NULL);
INSERT INTO "reservation_line" VALUES('c7046096b4712ce08a8207bcf88d2a20',2,714000000,900000000,NULL);
INSERT INTO "reservation_line" VALUES('c7046096b4712ce08a8207bcf88d2a20',3,714000000,900000000,NULL);
INSERT INTO "reservation_line" VALUES('c7046096b4712ce08a8207bcf88d2a20',4,5086148148,6411111111,'7.123456789');
INSERT INTO "reservation_line" VALUES('c7046096b4712ce08a8207bcf88d2a20',9,5086148148,6411111111,'7.123456789');
INSERT INTO "reservation_line" VALUES('c9c8015742ec0aabfb7ecb451722d568',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('c9c8015742ec0aabfb7ecb451722d568',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('c9c8015742ec0aabfb7ecb451722d568',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('c9c8015742ec0aabfb7ecb451722d568',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('c9c8015742ec0aabfb7ecb451722d568',10,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('d25419722d6895054742905086d81442',1,714000000,699999999,NULL);
INSERT INTO "reservation_line" VALUES('d25419722d6895054742905086d81442',4,5086148148,4986419746,'7.123456789');
INSERT INTO "reservation_line" VALUES('d25419722d6895054742905086d81442',8,714000000,699999999,NULL);
INSERT INTO "reservation_line" VALUES('d25419722d6895054742905086d81442',9,5086148148,4986419746,'7.123456789');
INSERT INTO "reservation_line" VALUES('d46cb5b1bd785e8a158a9c3e10e907a5',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('d46cb5b1bd785e8a158a9c3e10e907a5',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('d46cb5b1bd785e8a158a9c3e10e907a5',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('d46cb5b1bd785e8a158a9c3e10e907a5',5,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('d46cb5b1bd785e8a158a9c3e10e907a5',9,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('e7fb15f95909d3351ddb7eba098cd227',1,761600000,0,NULL);
INSERT INTO "reservation_line" VALUES('e7fb15f95909d3351ddb7eba098cd227',4,5425224691,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('e7fb15f95909d3351ddb7eba098cd227',6,761600000,0,NULL);
INSERT INTO "reservation_line" VALUES('e7fb15f95909d3351ddb7eba098cd227',7,761600000,0,NULL);
INSERT INTO "reservation_line" VALUES('e7fb15f95909d3351ddb7eba098cd227',9,5425224691,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('f6a85284b76a1da609da3ca15b3da45c',1,761600000,0,NULL);
INSERT INTO "reservation_line" VALUES('f6a85284b76a1da609da3ca15b3da45c',4,5425224691,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('f6a85284b76a1da609da3ca15b3da45c',6,761600000,0,NULL);
INSERT INTO "reservation_line" VALUES('f6a85284b76a1da609da3ca15b3da45c',7,761600000,0,NULL);
INSERT INTO "reservation_line" VALUES('f6a85284b76a1da609da3ca15b3da45c',9,5425224691,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('f7b1e22cba8b41bab9e4a1fdc1875fd4',1,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('f7b1e22cba8b41bab9e4a1fdc1875fd4',2,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('f7b1e22cba8b41bab9e4a1fdc1875fd4',4,5086148148,0,'7.123456789');
INSERT INTO "reservation_line" VALUES('f7b1e22cba8b41bab9e4a1fdc1875fd4',6,714000000,0,NULL);
INSERT INTO "reservation_line" VALUES('f7b1e22cba8b41bab9e4a1fdc1875fd4',9,5086148148,0,'7.123456789');
CREATE TABLE unpriced_requests (
          provider TEXT NOT NULL,
          path TEXT NOT NULL,
          day TEXT NOT NULL,
          requests INTEGER NOT NULL,
          PRIMARY KEY (provider, path, day)
        ) STRICT, WITHOUT ROWID
        ;
INSERT INTO "unpriced_requests" VALUES('qingbo-ai','/v1/chat/*','2026-11-21',1);
CREATE UNIQUE INDEX reservation_task ON reservation (provider, task_id) WHERE task_id IS NOT NULL;
CREATE INDEX reservation_unsent ON reservation (deadline) WHERE state = 'reserved';
CREATE INDEX reservation_sent ON reservation (deadline) WHERE state = 'dispatching';
CREATE UNIQUE INDEX journal_alert ON journal (bucket, detail) WHERE kind = 'alert';
CREATE TRIGGER journal_is_not_changed BEFORE UPDATE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_is_not_deleted BEFORE DELETE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_is_not_replaced BEFORE INSERT ON journal
    WHEN EXISTS (SELECT 1 FROM journal WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE INDEX reservation_doubted ON reservation (created_at) WHERE doubted = 1;
CREATE UNIQUE INDEX observation_once ON observation
        (provider, task_id, ifnull(state, ''), ifnull(charge, ''), ifnull(duration_s, ''), ifnull(facts, ''))
        ;
COMMIT;
