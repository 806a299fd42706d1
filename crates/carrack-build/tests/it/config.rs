//! Instructions that change only the config, and the history they leave.

use carrack_build::apply_changes;
use carrack_oci::{ImageConfig, Platform};
use expect_test::expect;

use crate::kit::{Build, Store, causes};

#[test]
fn config_and_history() {
    let build = Build::new(
        "FROM scratch\nMAINTAINER somebody\nENV A=1 B=\"two words\"\nENV C legacy value\nLABEL l=\"$A $B\" m='$A'\n\
         EXPOSE 80 8000-8002/udp 443/TCP\nVOLUME [\"/data\", \"/$A\"]\nUSER 1001:0\nSTOPSIGNAL SIGINT\n\
         HEALTHCHECK --interval=30s --retries=3 CMD curl -f http://localhost/ || exit 1\nSHELL [\"/bin/bash\", \"-c\"]\n\
         ENTRYPOINT exec top\nCMD server & wait\nONBUILD RUN make\nARG X=1\nARG Y\nWORKDIR a\nWORKDIR ../$A\n",
    );
    let built = build.run(&mut Store::default()).unwrap().built;
    expect![[r#"
        {
          "User": "1001:0",
          "ExposedPorts": {
            "443/tcp": {},
            "80/tcp": {},
            "8000/udp": {},
            "8001/udp": {},
            "8002/udp": {}
          },
          "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "A=1",
            "B=two words",
            "C=legacy value"
          ],
          "Entrypoint": [
            "/bin/bash",
            "-c",
            "exec top"
          ],
          "Cmd": [
            "/bin/bash",
            "-c",
            "server & wait"
          ],
          "Volumes": {
            "/1": {},
            "/data": {}
          },
          "WorkingDir": "/1",
          "Labels": {
            "l": "1 two words",
            "m": "$A"
          },
          "StopSignal": "SIGINT",
          "Healthcheck": {
            "Test": [
              "CMD-SHELL",
              "curl -f http://localhost/ || exit 1"
            ],
            "Interval": 30000000000,
            "Retries": 3
          },
          "OnBuild": [
            "RUN make"
          ],
          "Shell": [
            "/bin/bash",
            "-c"
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&built.config.config).unwrap());
    let history: Vec<String> =
        built.config.history.iter().map(|entry| entry.created_by.clone().unwrap()).collect();
    expect![[r#"
        MAINTAINER somebody
        ENV A=1 B=two words
        ENV C=legacy value
        LABEL l=1 two words m=$A
        EXPOSE [443/tcp 80/tcp 8000/udp 8001/udp 8002/udp]
        VOLUME [/data /1]
        USER 1001:0
        STOPSIGNAL SIGINT
        HEALTHCHECK ["CMD-SHELL" "curl -f http://localhost/ || exit 1"]
        SHELL [/bin/bash -c]
        ENTRYPOINT ["/bin/bash" "-c" "exec top"]
        CMD ["/bin/bash" "-c" "server & wait"]
        ONBUILD RUN make
        ARG X=1
        ARG Y
        WORKDIR /a
        WORKDIR /1"#]]
    .assert_eq(&history.join("\n"));
    assert_eq!(built.config.author.as_deref(), Some("somebody"));
    assert_eq!(built.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
}

#[test]
fn wrong_values_name_the_line() {
    for (text, message) in [
        ("EXPOSE 80a", "invalid port \"80a\""),
        ("EXPOSE 70000", "invalid port"),
        ("EXPOSE 9-8", "invalid port"),
        ("EXPOSE 80/icmp", "invalid port"),
        ("STOPSIGNAL SIGNOTHING", "unknown signal"),
        ("LABEL a=${b", "a ${ without its }"),
        ("ENV a=\"${b:?must be given}\"", "b: must be given"),
        ("VOLUME $none", "a volume cannot be an empty text"),
    ] {
        let error =
            Build::new(&format!("FROM scratch\n\n{text}\n")).run(&mut Store::default()).err().unwrap();
        let error = causes(&error);
        assert!(error.starts_with("error: line 3: ") && error.contains(message), "{text}: {error}");
    }
}

#[test]
fn exponential_variables_end() {
    let mut text = "FROM scratch\nENV A=xxxxxxxxxxxxxxxx\n".to_owned();
    text.push_str(&"ENV A=$A$A$A$A$A$A$A$A$A$A$A$A$A$A$A$A\n".repeat(100));
    let error = causes(&Build::new(&text).run(&mut Store::default()).err().unwrap());
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn changes_of_import_and_commit() {
    let mut config = ImageConfig::empty(&Platform::host());
    let changes = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let given = changes(&[
        "ENV A=1",
        "env B=$A",
        "CMD [\"sh\"]",
        "WORKDIR /x",
        "WORKDIR y",
        "ONBUILD RUN make",
        "USER 5",
    ]);
    apply_changes(&mut config, &given).unwrap();
    expect![[r#"{"User":"5","Env":["A=1","B=1"],"Cmd":["sh"],"WorkingDir":"/x/y","OnBuild":["RUN make"]}"#]]
        .assert_eq(&serde_json::to_string(&config.config).unwrap());
    for wrong in ["RUN true", "COPY a b", "FROM x", "NOTHING", "ENV", "ENV A=1\nENV B=2", "ONBUILD FROM x"] {
        assert!(apply_changes(&mut config, &changes(&[wrong])).is_err(), "{wrong:?} was applied");
    }
}

#[test]
fn the_newest_base_dates_the_build() {
    let mut store = Store::default();
    for (name, created) in [("old", "2020-01-02T03:04:05Z"), ("new", "2024-01-02T03:04:05.6Z")] {
        let mut report = Build::new("FROM scratch\nCOPY one /").file("one", "1").run(&mut store).unwrap();
        report.built.config.created = Some(created.to_owned());
        store.add_image(name, &report.built);
    }
    let build = Build::new("FROM new AS first\nFROM old\nCOPY --from=first /one /two").dated_by_base();
    let report = build.run(&mut store).unwrap();
    assert_eq!(report.built.config.created.as_deref(), Some("2024-01-02T03:04:05Z"));
}
