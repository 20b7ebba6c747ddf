PRAGMA user_version=1;
PRAGMA application_id=1129345893;
BEGIN TRANSACTION;
CREATE TABLE arm(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, identity TEXT NOT NULL);
INSERT INTO "arm" VALUES(1,'base','{"adapters":[],"batch_size":2,"dtype":"float32","guidance":1.0,"model":"toy","model_sha256":"0000000000000000000000000000000000000000000000000000000000000000","name":"base","negative_prompt":"","steps":20}');
CREATE TABLE cell(
    id INTEGER PRIMARY KEY,
    arm INTEGER NOT NULL REFERENCES arm,
    prompt INTEGER NOT NULL REFERENCES prompt,
    seed INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    UNIQUE(arm, prompt, seed),
    UNIQUE(arm, batch, slot));
INSERT INTO "cell" VALUES(1,1,1,7,0,0);
INSERT INTO "cell" VALUES(2,1,1,8,0,1);
INSERT INTO "cell" VALUES(3,1,1,9,1,0);
CREATE TABLE observation(
    cell INTEGER NOT NULL REFERENCES picture,
    attribute TEXT NOT NULL,
    value TEXT,
    confidence REAL NOT NULL CHECK(confidence BETWEEN 0 AND 1),
    reason TEXT NOT NULL CHECK(value IS NOT NULL OR reason <> ''),
    PRIMARY KEY(cell, attribute)) WITHOUT ROWID;
INSERT INTO "observation" VALUES(1,'exposure','modest',0.9,'');
INSERT INTO "observation" VALUES(1,'skin',NULL,0.3,'unsure');
INSERT INTO "observation" VALUES(2,'exposure','modest',0.9,'');
INSERT INTO "observation" VALUES(2,'skin','pale',1.0,'');
INSERT INTO "observation" VALUES(3,'exposure','revealing',0.9,'');
INSERT INTO "observation" VALUES(3,'skin','pale',1.0,'');
CREATE TABLE picture(
    cell INTEGER PRIMARY KEY REFERENCES cell,
    file TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL);
INSERT INTO "picture" VALUES(1,'images/1-base/0001-a-woman/7.png',268,'2a24b169cf6f031bdb3ee4ddb6de01f0499ad3bcca92cb573d9a655d40200651');
INSERT INTO "picture" VALUES(2,'images/1-base/0001-a-woman/8.png',268,'ee16fdb434eace36e9f7d3ffd5b9003937c442e31aac069cbb911a3fe0fd42b9');
INSERT INTO "picture" VALUES(3,'images/1-base/0001-a-woman/9.png',268,'48d7c95013118f112d32d55100d70169321cd1e79871f0a7bf6eb516c7e65ff3');
CREATE TABLE prompt(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO "prompt" VALUES(1,'a woman');
CREATE TABLE run(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "run" VALUES('identity','{"measurer":{"attributes":{"exposure":["modest","revealing"],"skin":["pale","tan","dark"]},"name":"toy","version":"1"},"spec":{"claim":[{"attribute":"skin","held_out":false,"n":null,"prompts":["a woman"],"target":"uniform"}],"confidence":0.95,"disparity":[],"drawing":{"batch_size":32,"guidance":1.0,"negative_prompt":"","steps":20},"measurer":"toy","n":3,"name":"toy","seed":7}}');
COMMIT;
