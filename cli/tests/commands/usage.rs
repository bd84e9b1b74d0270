//! `dunlin usage` and `dunlin budget`: what they send, and golden texts.

use dunlin_proto::v1;

use crate::harness::User;

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_shown_for_people_and_programs() {
    let user = User::signed_in().await;
    let shown = user.run("usage").await.ok();
    assert_eq!(
        shown.out,
        "FUNCTION  CALLS  CPU     MEMORY     IN    OUT\n\
         checkout  12     1.50 s  1.5 GiB s  10 B  2 KiB\n\
         pay       3      1.50 s  1.5 GiB s  10 B  2 KiB\n"
    );
    assert_eq!(shown.err, "15 calls, 3.00 s of CPU, 3 GiB s of memory\n");
    let json = user.run("usage -o json --by hour,key").await.ok().json();
    assert_eq!(
        (&json[1]["function"], &json[1]["cpu_ms"], json[1]["key"].is_null()),
        (&"pay".into(), &1500.into(), true)
    );
    let csv = user.run("usage -o csv --from 2026-01-31T12:00:00Z --to 2026-01-31T14:00:00Z").await.ok();
    assert_eq!(csv.out.lines().count(), 3);
    assert_eq!(csv.out.lines().nth(1), Some(",checkout,,,,12,1500000,1610612736,10,2048"));
    let asked = user.fake.state().usage.clone();
    assert_eq!(asked[2].group_by, [v1::UsageGroup::Hour as i32, v1::UsageGroup::Key as i32]);
    assert_eq!((asked[5].from.unwrap().seconds, asked[5].to.unwrap().seconds), (1_769_860_800, 1_769_868_000));
    for bad in ["usage --by day", "usage --since yesterday", "list -o csv", "usage --since 1h --from 1h"] {
        assert_eq!(user.run(bad).await.code, 2, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_set_shown_and_deleted() {
    let user = User::signed_in().await;
    assert_eq!(user.run("budget show").await.code, 3);
    let set = user.run("budget set --cpu 3600s/month --calls 20/day --warn 50 --enforce").await.ok();
    assert_eq!(
        set.out,
        "namespace default: warns at 50%, calls are refused when it is used up\n\
         cpu:   17 of 3600 CPU seconds a month (0%) until 1970-01-02T00:00:00.000Z\n\
         calls: 17 of 20 calls a day (85%) until 1970-01-02T00:00:00.000Z; warning\n"
    );
    let json = user.run("budget show -o json").await.ok().json();
    assert_eq!((&json["calls"]["state"], &json["cpu_seconds"]["period"]), (&"warning".into(), &"month".into()));
    assert_eq!(user.run("budget delete").await.code, 2, "nobody was asked");
    user.run("budget delete -y").await.ok();
    assert_eq!(user.run("budget show").await.code, 3);
    for bad in [
        "budget set",
        "budget set --calls 0/day",
        "budget set --calls 5s/day",
        "budget set --cpu 5s/week",
        "budget set --cpu 5s/day --warn 101",
    ] {
        assert_eq!(user.run(bad).await.code, 2, "{bad}");
    }
}
